"""The contestants of the benchmarks compute the same thing, and a wrong one is found."""

import dataclasses
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from bench import peers, report
from bench.loops import LOOPS, RUNS
from bench.networks import NETWORKS, Training
from bench.ops import OPS

ROOT = Path(__file__).resolve().parent.parent.parent
# The rest is left to the benchmarks themselves, which check before they time.
SMALL = [case for case in [*NETWORKS, *OPS] if case.bytes <= 500_000]
HERE = (peers.NumpyBook, peers.Numpy, peers.FastnnLayers, peers.FastnnCompiled)


@pytest.mark.parametrize(
    "case, peer",
    [
        pytest.param(case, peer, id=f"{case.kind}-{case.slug}-{peer.name}")
        for case in SMALL
        for peer in HERE
        if peer.takes(case)
    ],
)
def test_results_are_right(case, peer):
    ready = peer()
    ready.use(ready.threads[0])
    data = case.inputs()
    job = getattr(ready, case.kind)(case, data)
    for _ in range(case.first_steps):
        job.call()
    case.check(data, job.result())
    assert case.flops or case.bytes


def test_all_of_a_training_run_take_part():
    for case in LOOPS:
        assert {run.name for run in RUNS if run.takes(case)} == set(case.runs)
        assert all(hasattr(case, method) for method in case.runs.values())


def test_names_differ():
    names = [(case.kind, case.slug) for case in [*NETWORKS, *OPS, *LOOPS]]
    assert len(names) == len(set(names))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_wrong_step_is_found(dtype):
    """A gradient that is off by a thousandth, a step left out."""
    case = Training(dtype, sizes=(20, 10, 5), batch=10)
    data = case.inputs()
    job = peers.FastnnLayers().train(case, data)
    for _ in range(case.first_steps):
        job.call()
    right = job.result()
    case.check(data, right)
    start = [p for pair in data.params for p in pair]
    scale = 1 + np.finfo(dtype).eps ** 0.5
    nearly = [(p0 + (p - p0) * scale).astype(dtype) for p, p0 in zip(right, start, strict=True)]
    with pytest.raises(AssertionError, match="off by"):
        case.check(data, nearly)
    with pytest.raises(AssertionError, match="off by"):
        case.check(data, start)
    with pytest.raises(AssertionError, match="not float"):
        dataclasses.replace(case, dtype="float64" if dtype == "float32" else "float32").check(data, right)


def run_pytest(*arguments, folder=None):
    """pytest in a process, from the root: exit status and output."""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), *([str(folder)] if folder else [])])}
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *arguments]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    return done.returncode, done.stdout + done.stderr


BROKEN = """
from fastnn import kernels
right = kernels.get("cpu").affine_forward
def wrong(x, W, b, out):
    right(x, W, b, out)
    out[0, 0] += 100
kernels.get("cpu").affine_forward = wrong
"""


def test_a_wrong_kernel_fails_its_benchmark(tmp_path):
    pytest.importorskip("pytest_benchmark")
    tmp_path.joinpath("broken_affine.py").write_text(BROKEN)
    which = "affine and 100-x-784 and float32 and fastnn"
    code, out = run_pytest("bench", "--benchmark-disable", "-q", "-k", which, "-p", "broken_affine", folder=tmp_path)
    assert code == 1 and "1 failed, 1 passed" in out, out  # backward is right
    assert "fastnn, layers, affine forward, 100 x 784 x 50 float32: AssertionError: result 0 is off by 1e+02" in out


def test_what_is_measured_in_new_processes_is_saved(tmp_path):
    pytest.importorskip("pytest_benchmark")
    saved = tmp_path / "run.json"
    code, out = run_pytest("bench", "--benchmark-only", f"--benchmark-json={saved}", "-q", "-k", "import and alone")
    assert code == 0, out
    (record,), machine = report.load([saved])
    assert (record["kind"], record["case"]) == ("startup", "Python alone") and 0 < record["median"] < 10
    assert machine["roofline"]["flops"]["float32"] > 0 and machine["commit"]


def test_plain_pytest_runs_no_benchmark_and_benchmark_only_no_test():
    pytest.importorskip("pytest_benchmark")
    code, out = run_pytest("--collect-only", "-q", "--ignore=tests/kernels")
    assert code == 0 and "bench/test_cases.py" not in out.replace("tests/bench/test_cases.py", "")
    code, out = run_pytest("--collect-only", "-q", "--benchmark-only", "-k", "quick")
    lines = [line for line in out.splitlines() if "::" in line]
    assert code == 0 and 20 < len(lines) < 60 and all(line.startswith("bench/") for line in lines)
