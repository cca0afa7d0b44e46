"""Parallel kernels under threads and forks: never an abort, always the serial result."""

import os
import subprocess
import sys
import textwrap
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numba
import numpy as np
import pytest
from numpy.testing import assert_array_equal

import fastnn
from fastnn.kernels import cpu
from fastnn.kernels.cpu import _elementwise
from fastnn.kernels.cpu._jit import c_function

needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
needs_two = pytest.mark.skipif(numba.config.NUMBA_NUM_THREADS < 2, reason="one thread only")


def sigmoid(x):
    out = np.empty_like(x)
    cpu.sigmoid_forward(x, out)
    return out


def large(rng, rows=300):
    return rng.standard_normal((rows, 300))


@pytest.mark.parametrize("n", [0, -1, numba.config.NUMBA_NUM_THREADS + 1])
def test_a_wrong_number_of_threads_is_an_error(n):
    with pytest.raises(ValueError, match=rf"n must be between 1 and \d+ \(NUMBA_NUM_THREADS\), got {n}"):
        fastnn.set_num_threads(n)


@needs_two
def test_the_number_belongs_to_the_python_thread():
    with fastnn.threads(1):
        assert fastnn.get_num_threads() == 1
        with fastnn.threads(2):
            assert fastnn.get_num_threads() == 2
        assert fastnn.get_num_threads() == 1
        with ThreadPoolExecutor(1) as pool:
            assert pool.submit(fastnn.get_num_threads).result() == numba.config.NUMBA_NUM_THREADS
    assert fastnn.get_num_threads() == numba.config.NUMBA_NUM_THREADS


def test_concurrent_calls_give_the_serial_result(rng):
    arrays = [large(rng, 300 + i) for i in range(8)]
    with fastnn.threads(1):
        expected = [sigmoid(x) for x in arrays]
    with ThreadPoolExecutor(8) as pool:
        for result, wanted in zip(pool.map(sigmoid, arrays * 20), expected * 20, strict=True):
            assert_array_equal(result, wanted)


def test_threads_that_are_first_at_once_compile_once(monkeypatch):
    """Else all but the last would be freed, and other kernels have their addresses."""
    compiled, loop = [], cpu.relu_forward.__wrapped__

    def slowly(signature, function):
        compiled.append(function)
        time.sleep(0.05)
        return c_function(signature, function)

    monkeypatch.setattr(_elementwise, "c_function", slowly)
    kernel = _elementwise.elementwise(parallel_above=1000)(loop)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: kernel(np.ones(3), np.empty(3)), range(8)))
    assert compiled.count(loop) == 1


SCRIPT = """
import multiprocessing, os, threading
import numpy as np
import fastnn
from fastnn.layers import Affine, Sigmoid

x, W = np.random.default_rng(0).standard_normal((2, 300, 300))

def compute(_=None):
    return Sigmoid().forward(Affine(W, np.zeros(300)).forward(x))

def in_worker(_):
    return fastnn.get_num_threads(), compute()

if __name__ == "__main__":
    with fastnn.threads(1):
        expected = compute()
    assert (compute() == expected).all()
    {body}
    print("ok")
"""


def run_script(body, tmp_path):
    """The script in a process of its own: what is wrong would kill it."""
    path = tmp_path / "script.py"
    path.write_text(SCRIPT.format(body=textwrap.indent(textwrap.dedent(body), "    ").strip()))
    root = Path(fastnn.__file__).resolve().parent.parent
    env = {**os.environ, "PYTHONPATH": str(root), "NUMBA_NUM_THREADS": "2"}
    done = subprocess.run([sys.executable, str(path)], capture_output=True, text=True, env=env, timeout=300)
    assert (done.returncode, done.stdout) == (0, "ok\n"), done.stderr


def test_many_threads_and_no_abort(tmp_path):
    body = """
    from concurrent.futures import ThreadPoolExecutor
    with ThreadPoolExecutor(8) as pool:
        assert all((y == expected).all() for y in pool.map(compute, range(200)))
    """
    run_script(body, tmp_path)


@needs_fork
def test_a_forked_child_computes_on_one_thread(tmp_path):
    body = """
    for _ in range(5):
        pid = os.fork()
        if pid == 0:
            os._exit(0 if (compute() == expected).all() else 1)
        assert os.waitpid(pid, 0)[1] == 0
    assert (compute() == expected).all()
    """
    run_script(body, tmp_path)


@pytest.mark.parametrize("method", [pytest.param("fork", marks=needs_fork), "spawn"])
def test_workers_of_multiprocessing_have_one_thread_each(method, tmp_path):
    body = f"""
    os.environ.pop("NUMBA_NUM_THREADS")
    with multiprocessing.get_context({method!r}).Pool(2) as pool:
        for threads, y in pool.map(in_worker, range(4)):
            assert threads == 1 and (y == expected).all()
    """
    run_script(body, tmp_path)


def test_workers_of_joblib_share_the_cores(tmp_path):
    pytest.importorskip("joblib")
    body = """
    from joblib import Parallel, delayed
    os.environ.pop("NUMBA_NUM_THREADS")
    for threads, y in Parallel(n_jobs=2)(delayed(in_worker)(None) for _ in range(4)):
        assert 2 * threads <= max(2, os.cpu_count()) and (y == expected).all()
    """
    run_script(body, tmp_path)
