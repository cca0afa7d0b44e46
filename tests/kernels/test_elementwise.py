"""relu, sigmoid and sgd: functions of each element, against the float64 reference."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.testing import assert_allclose, assert_array_equal

from fastnn.kernels import ref
from tests.tolerances import TOL

SPECIAL = [
    0.0,
    -0.0,
    1e-45,
    -1e-45,
    1e-310,
    88.0,
    -88.0,
    104.0,
    -104.0,
    745.0,
    -745.0,
    1e4,
    -1e4,
    np.inf,
    -np.inf,
    np.nan,
]
PARALLEL = 60_001  # beyond the sizes above which kernels run in parallel

# name -> (roles of the inputs, outputs)
OPS = {
    "relu_forward": ("x", 1),
    "relu_backward": ("dy", 1),
    "sigmoid_forward": ("x", 1),
    "sigmoid_backward": ("dp", 1),
}


def draw(role, shape, dtype, rng):
    if role == "s":
        return np.dtype(dtype).type(0.37)
    values = rng.standard_normal(shape) * 20
    return np.asarray(1 / (1 + np.exp(-values)) if role == "p" else values, dtype)


def run(k, name, inputs, outputs):
    shape, dtype = inputs[0].shape, inputs[0].dtype
    outs = [np.full(shape, np.nan, dtype) for _ in range(outputs)]
    getattr(k, name)(*inputs, *outs)
    return outs


@pytest.mark.parametrize("dtype", TOL)
@pytest.mark.parametrize("shape", [(), (1,), (3, 7), (2, 3, 5), (PARALLEL,), (300, 301)], ids=str)
@pytest.mark.parametrize("name", OPS)
def test_matches_reference(k, name, shape, dtype, rng):
    roles, outputs = OPS[name]
    inputs = [draw(role, shape, dtype, rng) for role in roles]
    before = [a.copy() for a in inputs]
    want = run(ref, name, [a.astype("float64") for a in inputs], outputs)
    for got, expected in zip(run(k, name, inputs, outputs), want, strict=True):
        assert got.dtype == dtype
        assert_allclose(got, expected, **TOL[dtype])
    for a, b in zip(inputs, before, strict=True):
        assert_array_equal(a, b)


@pytest.mark.parametrize("dtype", TOL)
@pytest.mark.parametrize("name", ["relu_forward", "sigmoid_forward"])
def test_special_values(k, name, dtype):
    x = np.array(SPECIAL * 5, dtype)
    with np.errstate(all="raise", under="ignore"):
        (got,) = run(k, name, [x], 1)
        (want,) = run(ref, name, [x], 1)
    assert_allclose(got, want, **TOL[dtype])


@pytest.mark.parametrize("dtype", TOL)
def test_relu_keeps_infinity_and_nan_and_passes_the_gradient_of_nan(k, dtype):
    x = np.array([np.nan, np.inf, -np.inf, -0.0], dtype)
    y, dx = np.empty_like(x), np.empty_like(x)
    k.relu_forward(x, y)
    assert_array_equal(y, np.array([np.nan, np.inf, 0, 0]))
    k.relu_backward(np.full_like(x, 7), y, dx)
    assert_array_equal(dx, [7, 7, 0, 0])


@pytest.mark.parametrize("dtype", TOL)
def test_sigmoid_is_exact_in_its_tails(k, dtype):
    x = np.array([1e4, -1e4, np.inf, -np.inf], dtype)
    y = np.empty_like(x)
    k.sigmoid_forward(x, y)
    assert_array_equal(y, [1, 0, 1, 0])


@pytest.mark.parametrize("dtype", TOL)
@settings(deadline=None, max_examples=50)
@given(data=st.data())
def test_sigmoid_anywhere(dtype, data):
    from fastnn.kernels import cpu

    width = np.dtype(dtype).itemsize * 8
    x = data.draw(hnp.arrays(dtype, st.integers(1, 70), elements=st.floats(width=width)))
    got, want = np.empty_like(x), np.empty(x.shape)
    cpu.sigmoid_forward(x, got)
    ref.sigmoid_forward(x.astype("float64"), want)
    tiny = float(np.finfo(dtype).tiny)
    assert_allclose(got, want, rtol=4 * np.finfo(dtype).eps, atol=tiny)


@pytest.mark.parametrize("dtype", TOL)
@pytest.mark.parametrize("size", [1, 17, PARALLEL])
def test_sgd_matches_reference(k, size, dtype, rng):
    param, grad = rng.standard_normal((2, size)).astype(dtype)
    lr = param.dtype.type(0.3)
    want = param.astype("float64")
    ref.sgd_update(grad.astype("float64"), float(lr), want)
    k.sgd_update(grad, lr, param)
    assert_allclose(param, want, **TOL[dtype])


@pytest.mark.parametrize("size", [100, PARALLEL])
def test_sgd_keeps_nan_and_infinity(k, size):
    param = np.ones(size)
    grad = np.zeros(size)
    grad[:3] = np.nan, np.inf, -np.inf
    k.sgd_update(grad, 1.0, param)
    assert_array_equal(param[:4], [np.nan, -np.inf, np.inf, 1])
