import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from fastnn.kernels import ref
from tests.tolerances import TOL

SHAPES = [(1, 1), (3, 7), (5, 1025), (2000, 10), (64, 1000)]


def forward(k, x):
    y = np.full_like(x, np.nan)
    k.softmax_forward(x, y)
    return y


@pytest.mark.parametrize("dtype", TOL)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_forward_matches_reference(k, shape, dtype, rng):
    x = (40 * rng.standard_normal(shape)).astype(dtype)  # exp overflows without the shift
    y = forward(k, x)
    assert y.dtype == dtype
    assert_allclose(y, forward(ref, x.astype("float64")), **TOL[dtype])
    assert_allclose(y.sum(axis=1), 1, rtol=1e-5)


@pytest.mark.parametrize("dtype", TOL)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_backward_matches_reference(k, shape, dtype, rng):
    y = forward(ref, rng.standard_normal(shape)).astype(dtype)
    dout = rng.standard_normal(shape).astype(dtype)
    dx, want = np.full_like(y, np.nan), np.empty(shape)
    k.softmax_backward(dout, y, dx)
    ref.softmax_backward(dout.astype("float64"), y.astype("float64"), want)
    assert_allclose(dx, want, **TOL[dtype])


@pytest.mark.parametrize("dtype", TOL)
def test_special_values(k, dtype):
    inf, nan = np.inf, np.nan
    x = np.array([[1e4, -1e4, 0], [-inf, 0, 0], [inf, 0, 0], [nan, 0, 0], [0, 0, nan], [-inf, -inf, -inf]], dtype)
    half = [0, 0.5, 0.5]
    assert_array_equal(forward(k, x), forward(ref, x))
    assert_array_equal(forward(k, x)[:2], [[1, 0, 0], half])
    assert np.isnan(forward(k, x)[3:]).all()
