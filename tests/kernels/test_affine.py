import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

from fastnn.kernels import ref
from tests.kernels.test_matmul import LAYOUTS, SHAPES, assert_product
from tests.tolerances import TOL


def check(k, N, D, F, layout, dtype, seed=0):
    rng = np.random.default_rng(seed)
    x, dout = rng.standard_normal((N, D)).astype(dtype), rng.standard_normal((N, F)).astype(dtype)
    W, b = LAYOUTS[layout](rng.standard_normal((D, F)).astype(dtype)), rng.standard_normal(F).astype(dtype)
    out, dx, dW, db = (np.full(shape, np.nan, dtype) for shape in ((N, F), (N, D), (D, F), F))
    k.affine_forward(x, W, b, out)
    k.affine_backward_input(dout, W, dx)
    k.affine_backward_params(x, dout, dW, db)
    assert_product(out, x, W, b)
    assert_product(dx, dout, W.T)
    assert_product(dW, x.T, dout)
    assert_product(db[None], np.ones((1, N)), dout)
    y, want, activated, want_activated = np.abs(x) % 1 * (x > -0.5), np.empty_like(dx), *np.empty((2, N, F), dtype)
    for name in ("relu", "sigmoid"):
        getattr(k, f"affine_{name}_forward")(x, W, b, activated)
        getattr(ref, f"{name}_forward")(out, want_activated)
        assert_allclose(activated, want_activated, **TOL[dtype])
        getattr(k, f"{name}_affine_backward_input")(dout, W, y, dx)
        getattr(ref, f"{name}_affine_backward_input")(dout, W, y, want)
        assert_allclose(dx, want, rtol=0, atol=F * 4 * TOL[dtype]["rtol"])


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


def test_reference_agrees_with_the_definition(rng):
    x, W, b, dout = rng.standard_normal((3, 2)), rng.standard_normal((2, 4)), rng.standard_normal(4), np.ones((3, 4))
    out, dx, dW, db = np.empty((3, 4)), np.empty((3, 2)), np.empty((2, 4)), np.empty(4)
    ref.affine_forward(x, W, b, out)
    ref.affine_backward_input(dout, W, dx)
    ref.affine_backward_params(x, dout, dW, db)
    for n in range(3):
        for f in range(4):
            assert_allclose(out[n, f], sum(x[n, d] * W[d, f] for d in range(2)) + b[f])
        assert_allclose(dx[n], W.sum(axis=1))
    assert_allclose(dW, np.outer(x.sum(axis=0), np.ones(4)))
    assert_array_equal(db, np.full(4, 3.0))
