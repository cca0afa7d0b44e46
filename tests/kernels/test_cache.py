"""The kernel cache: compiled once, and whatever is wrong with it costs one more compilation at most."""

import os
import stat
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import fastnn

ROOT = Path(fastnn.__file__).resolve().parent.parent

SCRIPT = """
import numba.core.event, numpy as np
with numba.core.event.install_recorder("numba:compile") as compilations:
    from fastnn.layers import Relu
    assert (Relu().forward(np.array([-1.0, 2.0])) == [0.0, 2.0]).all()
print(len(compilations.buffer))
"""


def compilations(cache, warnings=None, script=SCRIPT):
    """Whether a fresh process compiled; its only output besides `warnings` on stderr."""
    env = {**os.environ, "PYTHONPATH": str(ROOT), "FASTNN_CACHE_DIR": str(cache)}
    done = subprocess.run([sys.executable, "-c", script], env=env, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert (warnings in done.stderr) if warnings else not done.stderr, done.stderr
    return int(done.stdout) > 0


@pytest.fixture(scope="module")
def filled(tmp_path_factory):
    cache = tmp_path_factory.mktemp("cache")
    assert compilations(cache)
    return cache


@pytest.fixture
def cache(filled, tmp_path):
    """A copy of a filled cache, to be damaged."""
    import shutil

    return Path(shutil.copytree(filled, tmp_path / "cache"))


def files(cache, pattern):
    found = list(cache.glob(f"kernels-*/{pattern}"))
    assert found
    return found


def test_a_second_process_compiles_nothing(filled):
    assert not compilations(filled)


@pytest.mark.parametrize("pattern", ["*.nbi", "*.nbc"])
@pytest.mark.parametrize("damage", [b"", b"\x80\x05garbage", None], ids=["empty", "garbage", "half"])
def test_damage_heals(cache, pattern, damage):
    for path in files(cache, pattern):
        content = path.read_bytes()
        path.write_bytes(content[: len(content) // 2] if damage is None else damage)
    assert compilations(cache)
    assert not compilations(cache)


@pytest.mark.skipif(os.name == "nt", reason="POSIX permissions")
def test_the_folder_is_private(filled):
    (folder,) = filled.glob("kernels-*")
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_a_file_in_place_of_the_folder_is_said_once(tmp_path):
    (tmp_path / "cache").write_text("")
    assert compilations(tmp_path / "cache", "RuntimeWarning: fastnn: compiled kernels are not kept")


def test_processes_that_compile_at_once(tmp_path):
    with ThreadPoolExecutor(3) as pool:
        assert any(pool.map(compilations, [tmp_path] * 3))
    assert not compilations(tmp_path)


def test_other_sources_are_another_folder(monkeypatch, tmp_path):
    from fastnn.kernels.cpu import _cache

    monkeypatch.setenv("FASTNN_CACHE_DIR", str(tmp_path))
    _cache.cache_dir.cache_clear()
    mine = _cache.cache_dir()
    monkeypatch.setattr(_cache, "sources_hash", lambda: "0" * 16)
    _cache.cache_dir.cache_clear()
    try:
        assert _cache.cache_dir() != mine and mine.parent == _cache.cache_dir().parent == tmp_path
    finally:
        _cache.cache_dir.cache_clear()


def test_a_process_that_forbids_compiling_is_told():
    env = {**os.environ, "PYTHONPATH": str(ROOT), "NUMBA_DISABLE_JIT": "1"}
    script = "from fastnn.layers import Relu; Relu().forward([1.0])"
    done = subprocess.run([sys.executable, "-c", script], env=env, capture_output=True, text=True)
    said = "RuntimeError: fastnn: kernels for the CPU must be compiled; unset NUMBA_DISABLE_JIT"
    assert done.stderr.splitlines()[-1] == said
