"""Affine and MatMul, which differ by the bias."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

from fastnn.gradient import gradient_check
from fastnn.layers import Affine, MatMul
from tests.layouts import LAYOUTS
from tests.tolerances import TOL

KINDS = {"affine": Affine, "matmul": MatMul}


def make(kind, D, F, dtype="float64", seed=0):
    rng = np.random.default_rng(seed)
    W, b = rng.standard_normal((D, F)).astype(dtype), rng.standard_normal(F).astype(dtype)
    return Affine(W, b) if kind == "affine" else MatMul(W)


def bias(layer):
    return layer.b if isinstance(layer, Affine) else 0


@pytest.mark.parametrize("kind", KINDS)
@settings(deadline=None, max_examples=20)
@given(N=st.integers(1, 7), D=st.integers(1, 9), F=st.integers(1, 9), seed=st.integers(0, 1000))
def test_gradients(kind, N, D, F, seed):
    x = np.random.default_rng(seed + 1).standard_normal((N, D))
    errors = gradient_check(make(kind, D, F, seed=seed), x)
    assert list(errors) == (["x", "W", "b"] if kind == "affine" else ["x", "W"])
    assert max(errors.values()) < 1e-7


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", TOL)
@pytest.mark.parametrize(
    "shape", [(6,), (1, 6), (4, 6), (2, 3, 6), (2, 1, 3, 6), (4, 2, 3), (5, 1, 2, 3), (2, 3)], ids=str
)
def test_batch_axes_and_images(kind, dtype, shape, rng):
    layer = make(kind, 6, 5, dtype)
    x = rng.standard_normal(shape).astype(dtype)
    lead = {(4, 2, 3): (4,), (5, 1, 2, 3): (5,), (2, 3): ()}.get(shape, shape[:-1])
    out = layer.forward(x)
    rows = x.reshape(-1, 6)
    assert out.shape == (*lead, 5)
    assert out.dtype == dtype
    assert_allclose(out.reshape(-1, 5), rows @ layer.W + bias(layer), rtol=1e-5, atol=1e-5)
    dout = rng.standard_normal(out.shape).astype(dtype)
    dx = layer.backward(dout)
    flat = dout.reshape(-1, 5)
    assert dx.shape == shape
    assert_allclose(dx.reshape(-1, 6), flat @ layer.W.T, rtol=1e-5, atol=1e-5)
    assert_allclose(layer.dW, rows.T @ flat, rtol=1e-5, atol=1e-5)
    if kind == "affine":
        assert_allclose(layer.db, flat.sum(axis=0), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("where", ["x", "W", "b", "dout"])
def test_any_layout(where, layout, rng):
    arrays = {
        "x": rng.standard_normal((4, 6)),
        "W": rng.standard_normal((6, 5)),
        "b": rng.standard_normal(5),
        "dout": rng.standard_normal((4, 5)),
    }
    given_ = dict(arrays)
    given_[where] = LAYOUTS[layout](arrays[where])
    arrays[where] = np.array(given_[where], dtype="float64")
    before = np.array(given_[where])
    layer = Affine(given_["W"], given_["b"])
    assert_allclose(layer.forward(given_["x"]), arrays["x"] @ arrays["W"] + arrays["b"])
    assert_allclose(layer.backward(given_["dout"]), arrays["dout"] @ arrays["W"].T)
    assert_allclose(layer.dW, arrays["x"].T @ arrays["dout"])
    assert_allclose(layer.db, arrays["dout"].sum(axis=0))
    assert_array_equal(np.array(given_[where]), before)


@pytest.mark.parametrize(
    ("x_dtype", "W_dtype", "out_dtype"),
    [
        ("float64", "float32", "float64"),
        ("float32", "float64", "float64"),
        ("uint8", "float32", "float32"),
        ("int64", "float32", "float64"),
        ("bool", "float32", "float32"),
        ("float16", "float32", "float32"),
        ("float32", "float16", "float32"),
        ("float32", "int8", "float32"),
        ("float64", "int64", "float64"),
    ],
)
def test_promotion(x_dtype, W_dtype, out_dtype):
    x, W, b = np.eye(3, dtype=x_dtype), np.arange(6).reshape(3, 2).astype(W_dtype), np.zeros(2, W_dtype)
    layer = Affine(W, b)
    out = layer.forward(x)
    assert out.dtype == out_dtype
    assert_array_equal(out, [[0, 1], [2, 3], [4, 5]])
    assert layer.backward(np.ones((3, 2))).dtype in (np.dtype(out_dtype), np.dtype("float64"))
    assert_array_equal(layer.dW, np.ones((3, 2)))
    assert layer.dW.dtype == layer.W.dtype
    assert_array_equal(layer.db, [3, 3])


def test_params_are_the_users_arrays_and_grads_stay_where_they_are(rng):
    W, b = np.zeros((3, 2)), np.zeros(2)
    layer = Affine(W, b)
    assert layer.params[0] is W is layer.W
    assert layer.params[1] is b is layer.b
    dW, db = layer.grads
    for _ in range(3):
        layer.backward(layer.forward(rng.standard_normal((4, 3))))
        assert layer.grads[0] is dW is layer.dW
        assert layer.grads[1] is db is layer.db
    W += 1  # as an optimizer does
    assert_array_equal(layer.forward(np.ones((1, 3))), [[3, 3]])


def test_backward_sees_the_input_of_the_last_forward(rng):
    layer = make("affine", 3, 2)
    first, last = rng.standard_normal((2, 4, 3))
    layer.forward(first)
    layer.forward(last)
    layer.backward(np.ones((4, 2)))
    assert_allclose(layer.dW, last.T @ np.ones((4, 2)))


def test_held_results_are_never_overwritten(rng):
    layer = make("affine", 30, 20, "float32")
    xs = rng.standard_normal((10, 5, 30)).astype("float32")
    outs = [layer.forward(x) for x in xs]
    views = [layer.forward(x)[1:, ::2] for x in xs]
    dxs = [(layer.forward(x), layer.backward(np.ones((5, 20), "float32") * i))[1] for i, x in enumerate(xs)]
    for i, x in enumerate(xs):
        assert_allclose(outs[i], x @ layer.W + layer.b, rtol=1e-4, atol=1e-5)
        assert_allclose(views[i], (x @ layer.W + layer.b)[1:, ::2], rtol=1e-4, atol=1e-5)
        assert_allclose(dxs[i], np.full((5, 20), i) @ layer.W.T, rtol=1e-4, atol=1e-4)


def test_outputs_are_recycled_once_nobody_holds_them():
    layer = make("affine", 3, 2)
    x = np.ones((4, 3))
    addresses = {layer.forward(x).__array_interface__["data"][0] for _ in range(20)}
    assert len(addresses) <= 2


def test_exchanging_a_weight():
    layer = make("affine", 3, 2)
    new = np.ones((3, 2))
    layer.W = new
    assert layer.params[0] is new
    with pytest.raises(ValueError, match=r"Affine: W must have shape \(3, 2\), got \(2, 3\)"):
        layer.W = np.ones((2, 3))


@pytest.mark.parametrize("index", [0, 1])
def test_an_exchanged_parameter_must_fit(index, rng):
    """Products have only addresses: they would read, or write, beyond the end of what is too small."""
    layer, x = make("affine", 3, 2), rng.standard_normal((4, 3))
    y = layer.forward(x)
    others = [np.ones((3, 1000)), np.ones(1)]
    layer.params[index] = others[index]
    with pytest.raises(ValueError, match="the shapes of a matrix product must fit each other, got"):
        layer.forward(x)
    layer = make("affine", 3, 2)
    layer.grads[index] = others[index]
    layer.forward(x)
    with pytest.raises(ValueError, match="Affine: grads must have the shapes of params, got"):
        layer.backward(y)


def test_transposed_weight_is_shared_not_copied():
    E = np.arange(6.0).reshape(2, 3)
    layer = MatMul(E.T)
    assert np.shares_memory(layer.W, E)
    assert_array_equal(layer.forward(np.eye(3)), E.T)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (
            lambda a: a.forward(np.zeros((2, 4))),
            ValueError,
            "Affine: x must have 3 values a sample to fit W of shape (3, 2), got shape (2, 4)",
        ),
        (
            lambda a: a.forward(1.0),
            ValueError,
            "Affine: x must have 3 values a sample to fit W of shape (3, 2), got shape ()",
        ),
        (
            lambda a: a.forward(np.zeros((0, 3))),
            ValueError,
            "Affine: x must hold at least one sample, got an empty array of shape (0, 3)",
        ),
        (
            lambda a: a.forward(np.array([[1, None, 2]])),
            TypeError,
            "Affine: x must be an array of numbers, got ndarray of Python objects",
        ),
        (
            lambda a: a.forward([[1, 2], [3]]),
            ValueError,
            "Affine: x must be an array, got nested sequences of unequal lengths",
        ),
        (
            lambda a: a.forward(["a", "b", "c"]),
            TypeError,
            "Affine: x must hold real numbers of at most 64 bits, got dtype <U1",
        ),
        (
            lambda a: a.forward(np.zeros(3, complex)),
            TypeError,
            "Affine: x must hold real numbers of at most 64 bits, got dtype complex128",
        ),
        (lambda a: a.backward(np.zeros((1, 2))), RuntimeError, "Affine: backward needs a forward before it"),
        (
            lambda a: (a.forward(np.zeros((4, 3))), a.backward(np.zeros((4, 3)))),
            ValueError,
            "Affine: dout must have the shape (4, 2) of forward's output, got (4, 3)",
        ),
        (
            lambda a: Affine(np.zeros((3, 2)), np.zeros(3)),
            ValueError,
            "Affine: b must have shape (2,) to fit W of shape (3, 2), got (3,)",
        ),
        (
            lambda a: Affine(np.zeros(3), np.zeros(3)),
            ValueError,
            "Affine: W must be a non-empty array with 2 axes, got shape (3,)",
        ),
        (
            lambda a: MatMul(np.zeros((0, 3))),
            ValueError,
            "MatMul: W must be a non-empty array with 2 axes, got shape (0, 3)",
        ),
    ],
)
def test_errors(call, error, message):
    with pytest.raises(error) as caught:
        call(Affine(np.zeros((3, 2)), np.zeros(2)))
    assert str(caught.value) == message
