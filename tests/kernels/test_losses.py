"""sigmoid_with_loss and mean_squared_error."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

import fastnn
from fastnn.kernels import cpu, ref
from tests.tolerances import TOL

OPS = ["sigmoid_with_loss", "mean_squared_error"]


def run(k, op, x, t):
    dx = np.full_like(x, np.nan)
    return getattr(k, op)(x, t, dx), dx


@pytest.mark.parametrize("op", OPS)
@pytest.mark.parametrize("dtype", TOL)
@pytest.mark.parametrize("shape", [(), (1,), (3, 7), (2, 3, 5), (60_001,), (300, 301)], ids=str)
def test_matches_reference(k, op, shape, dtype, rng):
    x, t = np.asarray(20 * rng.standard_normal(shape), dtype), np.asarray(rng.random(shape), dtype)
    before = x.copy(), t.copy()
    loss, dx = run(k, op, x, t)
    want_loss, want = run(ref, op, x.astype("float64"), t.astype("float64"))
    assert dx.dtype == dtype
    assert_allclose(loss, want_loss, **TOL[dtype])
    assert_allclose(dx * dx.size, want * dx.size, **TOL[dtype])
    with fastnn.threads(1):
        alone = run(k, op, x, t)
    assert loss == alone[0]
    assert_array_equal(dx, alone[1])
    assert_array_equal((x, t), before)


@pytest.mark.parametrize("dtype", TOL)
def test_sigmoid_far_out(k, dtype):
    inf = np.inf
    for x, t, loss, dx in [
        (1e4, 0, 1e4, 1),
        (-1e4, 0, 0, 0),
        (-1e4, 1, 1e4, -1),
        (inf, 0, inf, 1),
        (0, 0.5, np.log(2), 0),
    ]:
        got = run(k, "sigmoid_with_loss", np.array([x], dtype), np.array([t], dtype))
        assert_allclose(got[0], loss, rtol=1e-7)
        assert_array_equal(got[1], [dx])
    loss, _ = run(k, "sigmoid_with_loss", np.array([30], dtype), np.array([1], dtype))
    assert_allclose(loss, np.exp(-30.0), rtol=1e-6)  # a small one keeps its digits


@pytest.mark.parametrize("op", OPS)
def test_nan_comes_out(k, op):
    for x, t in [(np.nan, 0.5), (0.5, np.nan)]:
        loss, dx = run(k, op, np.array([0, x]), np.array([0, t]))
        assert np.isnan(loss)
        assert_array_equal(np.isnan(dx), [False, True])


@pytest.mark.parametrize("bad", [-0.1, 1.1])
def test_labels_beyond_0_and_1_cost_nan(k, bad):
    assert np.isnan(run(k, "sigmoid_with_loss", np.zeros(3), np.array([0, bad, 1]))[0])


@pytest.mark.parametrize("op", OPS)
def test_small_ones_past_the_dispatcher(op, rng):
    kernel = getattr(cpu, op)
    x, t = rng.random((2, 5, 7))
    loss, dx = run(cpu, op, x, t)
    again = np.empty_like(x)
    assert kernel.at_once(x, t, again) == loss
    assert_array_equal(again, dx)
    assert kernel.at_once(x, t[:4], again) is False
    assert kernel.at_once(x, t.astype("float32"), again) is False
    assert kernel.at_once(x, np.full_like(t, np.nan), again) is False
    assert kernel.at_once(*np.zeros((3, 4097))) is False


FREED = """
import numpy as np
from fastnn.kernels import cpu, ref

for dtype in ("float32", "float64"):
    for size in (600, 10_000, 30_000):
        x = np.random.default_rng(0).standard_normal(size).astype(dtype)
        t, dx = (x[::-1] > 0).astype(dtype), np.empty_like(x)
        for op in ("sigmoid_with_loss", "mean_squared_error"):
            got, want = getattr(cpu, op)(x, t, dx), getattr(ref, op)(x, t, dx)
            np.testing.assert_allclose(got, want, rtol=1e-5)
"""


def test_no_memory_is_read_that_was_given_back():
    """glibc overwrites what is freed, and what is new; elsewhere the setting does nothing."""
    env = {**os.environ, "MALLOC_PERTURB_": "85", "PYTHONPATH": str(Path(fastnn.__file__).resolve().parent.parent)}
    done = subprocess.run([sys.executable, "-c", FREED], env=env, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
