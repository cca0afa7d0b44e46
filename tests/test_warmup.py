"""warmup: what it compiled, no later process compiles."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

import fastnn
from fastnn.cli import main

ROOT = Path(fastnn.__file__).resolve().parent.parent

# Other shapes than the examples', small and large.
USE = """
import numba.core.event, numpy as np
with numba.core.event.install_recorder("numba:compile") as compilations:
    from fastnn.layers import Affine, Relu, SoftmaxWithLoss
    for samples in (7, 3000):
        x, relu, loss = np.ones((samples, 100), "float32"), Relu(), SoftmaxWithLoss()
        affine = Affine(np.ones((100, 100), "float32"), np.ones(100, "float32"))
        loss.forward(affine.forward(relu.forward(x)), np.zeros(samples, int))
        relu.backward(affine.backward(loss.backward()))
print(len(compilations.buffer))
"""


def test_a_later_process_compiles_nothing(tmp_path):
    env = {**os.environ, "PYTHONPATH": str(ROOT), "FASTNN_CACHE_DIR": str(tmp_path)}

    def run(*args):
        done = subprocess.run([sys.executable, *args], env=env, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stderr
        return done

    bar = run("-m", "fastnn", "warmup", "--layers", "Affine", "Relu", "SoftmaxWithLoss")
    assert "3/3" in bar.stderr
    assert run("-c", USE).stdout == "0\n"


@pytest.mark.parametrize(("argument", "wrong"), [("dtypes", "float16"), ("layers", "Elu")])
def test_wrong_arguments(argument, wrong):
    with pytest.raises(ValueError, match=f"^warmup: {argument} must be of .*, got '{wrong}'$"):
        fastnn.warmup(**{argument: [wrong]})


def test_the_command_says_what_is_wrong(capsys):
    assert main(["warmup", "--layers", "Elu"]) == 1
    assert capsys.readouterr().err.startswith("fastnn: error: warmup: layers must be of Affine, ")
