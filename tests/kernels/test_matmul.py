import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

from tests.tolerances import TOL

# N, D, F
SHAPES = [(1, 1, 1), (1, 784, 10), (30, 2, 10), (100, 784, 50), (17, 33, 65), (5, 1025, 3), (257, 300, 311)]
SHAPES += [(70, 12, 66), (130, 12, 130)]  # tiles of a GPU
LAYOUTS = {"rows": lambda W: W, "columns": np.asfortranarray, "view": lambda W: np.pad(W, 3)[3:-3, 3:-3]}


def assert_product(got, a, b, bias=0.0):
    """got = a·b + bias, within the rounding of sums in got's dtype."""
    a, b, bias = (np.asarray(v, "float64") for v in (a, b, bias))
    eps = np.finfo(got.dtype).eps
    bound = eps * (4 + np.sqrt(a.shape[1])) * (np.abs(a) @ np.abs(b) + np.abs(bias)) + np.finfo(got.dtype).tiny
    assert np.all(np.abs(got - (a @ b + bias)) <= bound)


def check(k, N, D, F, layout, dtype, seed=0):
    rng = np.random.default_rng(seed)
    x, dout = rng.standard_normal((N, D)).astype(dtype), rng.standard_normal((N, F)).astype(dtype)
    W = LAYOUTS[layout](rng.standard_normal((D, F)).astype(dtype))
    out, dx, dW = (np.full(shape, np.nan, dtype) for shape in ((N, F), (N, D), (D, F)))
    before = x.copy(), W.copy(), dout.copy()
    k.matmul_forward(x, W, out)
    k.matmul_backward_input(dout, W, dx)
    k.matmul_backward_params(x, dout, dW)
    assert_product(out, x, W)
    assert_product(dx, dout, W.T)
    assert_product(dW, x.T, dout)
    for array, old in zip((x, W, dout), before, strict=True):
        assert_array_equal(array, old)


@pytest.mark.parametrize("dtype", TOL)
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_matches_reference(k, shape, layout, dtype):
    check(k, *shape, layout, dtype)


@pytest.mark.parametrize("dtype", TOL)
@settings(deadline=None, max_examples=60)
@given(
    N=st.integers(1, 70),
    D=st.integers(1, 70),
    F=st.integers(1, 70),
    layout=st.sampled_from(sorted(LAYOUTS)),
    seed=st.integers(0, 2**32 - 1),
)
def test_any_shape(k, dtype, N, D, F, layout, seed):
    check(k, N, D, F, layout, dtype, seed)


@pytest.mark.parametrize("dtype", TOL)
def test_nan_and_infinity_reach_only_their_row(k, dtype):
    x, W = np.ones((20, 30), dtype), np.ones((30, 40), dtype)
    x[3, 7], x[11, 2] = np.nan, np.inf
    out = np.empty((20, 40), dtype)
    k.matmul_forward(x, W, out)
    want = np.full((20, 40), 30.0)
    want[3], want[11] = np.nan, np.inf
    assert_allclose(out, want)
