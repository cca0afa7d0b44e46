"""softmax and log_softmax."""

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

import fastnn
from fastnn.kernels import ref
from tests.tolerances import TOL

# Few classes, in part and in whole vectors of samples and of classes; many.
SHAPES = [(1, 1), (3, 7), (100, 10), (129, 16), (40, 63), (33, 64), (5, 1025), (2000, 10)]
OPS = ["softmax", "log_softmax"]


def forward(k, op, x, out=None):
    y = np.full_like(x, np.nan) if out is None else out
    getattr(k, f"{op}_forward")(x, y)
    return y


@pytest.mark.parametrize("op", OPS)
@pytest.mark.parametrize("dtype", TOL)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_forward_matches_reference(k, op, shape, dtype, rng):
    x = (40 * rng.standard_normal(shape)).astype(dtype)  # exp overflows without the shift
    y = forward(k, op, x)
    assert y.dtype == dtype
    assert_allclose(y, forward(ref, op, x.astype("float64")), **TOL[dtype])
    assert_allclose((y if op == "softmax" else np.exp(y)).sum(axis=1), 1, rtol=1e-5)
    assert_allclose(forward(k, op, x, out=x), y, **TOL[dtype])  # in place


@pytest.mark.parametrize("op", OPS)
@pytest.mark.parametrize("dtype", TOL)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_backward_matches_reference(k, op, shape, dtype, rng):
    y = forward(ref, op, rng.standard_normal(shape)).astype(dtype)
    dout = rng.standard_normal(shape).astype(dtype)
    dx, want = np.full_like(y, np.nan), np.empty(shape)
    getattr(k, f"{op}_backward")(dout, y, dx)
    getattr(ref, f"{op}_backward")(dout.astype("float64"), y.astype("float64"), want)
    assert_allclose(dx, want, **{name: 10 * value for name, value in TOL[dtype].items()})  # sums of up to 1025


@pytest.mark.parametrize("op", OPS)
@pytest.mark.parametrize("dtype", TOL)
@pytest.mark.parametrize("classes", [3, 70])
def test_special_values(k, op, classes, dtype):
    inf, nan = np.inf, np.nan
    x = np.full((6, classes), -inf, dtype)
    x[:5, :3] = [[1e4, -1e4, 0], [-inf, 0, 0], [inf, 0, 0], [nan, 0, 0], [0, 0, nan]]
    with np.errstate(divide="ignore"):
        want = np.log([[1, 0, 0], [0, 0.5, 0.5]]) if op == "log_softmax" else [[1, 0, 0], [0, 0.5, 0.5]]
    y = forward(k, op, x)
    if op == "softmax":
        assert_array_equal(y[:2, :3], want)
    else:
        assert_allclose(y[:2, :3], [[0, -2e4, -1e4], want[1]], rtol=1e-6)
    assert np.isnan(y[3:]).all()
    assert_array_equal(np.isnan(y), np.isnan(forward(ref, op, x)))


@pytest.mark.parametrize("op", OPS)
@pytest.mark.parametrize("shape", [(5001, 10), (301, 100)], ids=str)
def test_same_for_any_number_of_threads_and_any_batch(k, op, shape, rng):
    x = rng.standard_normal(shape).astype("float32")
    with fastnn.threads(1):
        alone = forward(k, op, x)
    assert_array_equal(forward(k, op, x), alone)
    assert_array_equal(forward(k, op, x[7:8]), alone[7:8])
