import json
import os
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from bench import gpu as bench_gpu
from fastnn import Roofline, kernels


def test_everything_runs_and_is_checked(xp, device, tmp_path, capsys):
    if device == "cpu":
        pytest.skip("asks for --device cuda")
    out = tmp_path / "gpu.json"
    assert bench_gpu.main(["--small", "--out", str(out)]) == 0
    result = json.loads(out.read_text())
    names = [record["case"] for record in result["cases"]]
    assert {name.split()[0] for name in names} == {
        "softmax_with_loss",
        "relu",
        "sigmoid",
        "affine",
        "convolution",
        "step",
    }
    assert all(seconds > 0 for record in result["cases"] for seconds in record["seconds"].values())
    assert 0 < result["mnist"]["loss"] < 5
    assert f"wrote {out}" in capsys.readouterr().out


def test_without_a_gpu_it_says_why(capsys):
    if not kernels.gpu_problem():
        pytest.skip("there is a GPU")
    with pytest.raises(SystemExit) as stopped:
        bench_gpu.main(["--small"])
    assert stopped.value.code == 1
    assert capsys.readouterr().err == f"bench.gpu: no GPU to compute on: {kernels.gpu_problem()}\n"


def test_a_wrong_result_is_not_timed():
    case = bench_gpu.Case("sum", {"fastnn": lambda: np.array([1.0, 2.1])}, np.array([1.0, 2.0]))
    with pytest.raises(AssertionError, match=r"^sum: fastnn is off by 5\.0e-02$"):
        case.check()


def test_one_line_a_case():
    limits = Roofline(1, {"float32": 1e12, "float64": 1e12}, 1e11, 1e11)
    seconds = {"fastnn": 2e-6, "fastnn epoch": 1e-6, "cupy": 3e-6, "torch": 4e-6}
    record = {"case": "step", "seconds": seconds, "flops": 5e5, "bytes": 0.0}
    assert bench_gpu.describe(record, limits) == (
        "step: fastnn 2.0 µs, fastnn epoch 1.0 µs, cupy 3.0 µs, torch 4.0 µs; best peer / fastnn 3.00; 50% of FMA peak"
    )


@pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")
def test_the_script_runs_all_of_it(tmp_path):
    """With stubs in place of Python and of NVIDIA's tools, which write down what they are called with."""
    for name, then in {"python": "", "nvidia-smi": "", "compute-sanitizer": 'shift 4; exec "$@"'}.items():
        stub = tmp_path / name
        stub.write_text(f'#!/bin/sh\necho {name} "$@" >> "{tmp_path}/calls"\n{then}\n')
        stub.chmod(0o755)
    environment = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}", "FASTNN_PYTHON": str(tmp_path / "python")}
    subprocess.run(["bash", Path(bench_gpu.__file__).parent / "gpu.sh"], env=environment, check=True)
    calls = (tmp_path / "calls").read_text().splitlines()
    assert calls[0].startswith("nvidia-smi --query-gpu=name")
    assert calls[1] == "python -m fastnn info"
    assert calls[2].startswith("python -m pytest -q --device cuda tests/kernels tests/test_device.py")
    for tool, by_tool, tests in zip(("memcheck", "racecheck", "synccheck"), calls[3:9:2], calls[4:9:2], strict=True):
        assert by_tool.startswith(f"compute-sanitizer --tool {tool} --error-exitcode 1")
        assert tests.startswith("python -m pytest -q --device cuda tests/test_device.py")
    assert calls[9:] == ["python -m bench.gpu"]
