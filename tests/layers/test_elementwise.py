"""The activations, Softmax and LogSoftmax."""

import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.testing import assert_allclose, assert_array_equal

from fastnn.gradient import gradient_check
from fastnn.kernels import ref
from fastnn.layers import Gelu, LeakyRelu, LogSoftmax, Relu, Sigmoid, Silu, Softmax, Softplus, Tanh
from tests.layouts import LAYOUTS
from tests.tolerances import TOL

ACTIVATIONS = {
    "relu": Relu,
    "sigmoid": Sigmoid,
    "tanh": Tanh,
    "leaky_relu": LeakyRelu,
    "softplus": Softplus,
    "gelu": Gelu,
    "gelu_tanh": lambda: Gelu(approximate="tanh"),
    "silu": Silu,
}
FROM_INPUT = ("gelu", "gelu_tanh", "silu")  # the others' backward needs only the output
KINDS = {**ACTIVATIONS, "softmax": Softmax, "log_softmax": LogSoftmax}
SHAPES = hnp.array_shapes(min_dims=1, max_dims=4, max_side=5)


def reference(kind, x):
    rows = np.asarray(x, "float64").reshape(-1, np.shape(x)[-1])
    y = np.empty_like(rows)
    getattr(ref, f"{kind}_forward")(rows, *([0.01] if kind == "leaky_relu" else []), y)
    return y.reshape(np.shape(x))


@pytest.mark.parametrize("kind", KINDS)
@settings(deadline=None, max_examples=25)
@given(shape=SHAPES, seed=st.integers(0, 1000))
def test_gradients(kind, shape, seed):
    x = np.random.default_rng(seed).standard_normal(shape)
    x[abs(x) < 1e-3] = 0.5  # away from relu's kink
    if "softmax" in kind and shape[-1] == 1:  # constant: both gradients are rounding errors round 0
        layer = KINDS[kind]()
        assert_array_equal(layer.forward(x), np.full(shape, kind == "softmax"))
        assert_array_equal(layer.backward(x), np.zeros(shape))
    else:
        assert gradient_check(KINDS[kind](), x)["x"] < 1e-7


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", TOL)
@settings(deadline=None, max_examples=25)
@given(shape=SHAPES, seed=st.integers(0, 1000))
def test_matches_reference(kind, dtype, shape, seed):
    x = (30 * np.random.default_rng(seed).standard_normal(shape)).astype(dtype)
    y = KINDS[kind]().forward(x)
    assert y.dtype == dtype
    assert y.shape == shape
    assert_allclose(y, reference(kind, x), **TOL[dtype])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_any_layout(kind, layout, rng):
    x, dout = rng.standard_normal((2, 4, 6))
    layer, plain = KINDS[kind](), KINDS[kind]()
    given_x, given_dout = LAYOUTS[layout](x), LAYOUTS[layout](dout)
    before_x, before_dout = np.array(given_x), np.array(given_dout)
    assert_allclose(layer.forward(given_x), plain.forward(np.array(given_x, "float64")))
    assert_allclose(layer.backward(given_dout), plain.backward(np.array(given_dout, "float64")))
    assert_array_equal(np.array(given_x), before_x)
    assert_array_equal(np.array(given_dout), before_dout)  # the book's Relu changes dout


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("dtype", "computed"), [("int64", "float64"), ("uint8", "float32"), ("float16", "float32"), ("bool", "float32")]
)
def test_promotion(kind, dtype, computed):
    x = np.array([[0, 1], [1, 1]], dtype)
    y = KINDS[kind]().forward(x)
    assert y.dtype == computed
    assert_allclose(y, reference(kind, x), rtol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_held_results_are_never_overwritten(kind, rng):
    layer = KINDS[kind]()
    xs = rng.standard_normal((10, 5, 30))
    outs = [layer.forward(x) for x in xs]
    dxs = [(layer.forward(x), layer.backward(x))[1] for x in xs]
    for x, y, dx in zip(xs, outs, dxs, strict=True):
        assert_allclose(y, reference(kind, x))
        fresh = KINDS[kind]()
        fresh.forward(x)
        assert_array_equal(dx, fresh.backward(x))


@pytest.mark.parametrize("kind", ACTIVATIONS)
def test_out(kind, rng):
    x, dout = rng.standard_normal((2, 4, 30))
    layer, plain = ACTIVATIONS[kind](), ACTIVATIONS[kind]()
    want, want_dx = plain.forward(x), plain.backward(dout)
    y, dx = np.empty_like(x), np.empty_like(x)
    assert layer.forward(x, out=y) is y
    assert_array_equal(y, want)
    assert layer.backward(dout, out=dx) is dx
    assert_array_equal(dx, want_dx)
    assert layer.backward(dout, out=dout) is dout
    assert_array_equal(dout, want_dx)


@pytest.mark.parametrize("kind", ACTIVATIONS)
def test_in_place(kind, rng):
    x, dout = rng.standard_normal((2, 4, 30))
    layer, plain = ACTIVATIONS[kind](), ACTIVATIONS[kind]()
    want, want_dx = plain.forward(x.copy()), plain.backward(dout)
    if kind in FROM_INPUT:
        with pytest.raises(ValueError, match="out must not be x, which backward needs"):
            layer.forward(x, out=x)
        with pytest.raises(ValueError, match="out must not be x, which backward needs"):
            layer.forward(x, out=x[...])
    else:
        assert layer.forward(x, out=x) is x
        assert_array_equal(x, want)
        assert_array_equal(layer.backward(dout), want_dx)


@pytest.mark.parametrize("kind", ACTIVATIONS)
def test_float16_is_computed_in_float32(kind, rng):
    x = rng.standard_normal((4, 30)).astype("float16")
    layer, plain = ACTIVATIONS[kind](), ACTIVATIONS[kind]()
    y, want = layer.forward(x), plain.forward(x.astype("float32"))
    assert y.dtype == "float32"
    assert_array_equal(y, want)
    assert_array_equal(layer.backward(x), plain.backward(x.astype("float32")))


def test_wrong_arguments():
    for alpha in (-0.1, np.nan, np.inf):
        with pytest.raises(ValueError, match="LeakyRelu: alpha must be a finite number of at least 0, got"):
            LeakyRelu(alpha)
    with pytest.raises(ValueError, match="Gelu: approximate must be 'none' or 'tanh', got 'erf'"):
        Gelu("erf")


def holds_through_dlpack(y):
    return np.from_dlpack(y)


@pytest.mark.parametrize(
    "hold", [lambda y: y, lambda y: y[1:], lambda y: y.T.ravel("K"), memoryview, holds_through_dlpack]
)
def test_whoever_holds_memory_keeps_it(hold, rng):
    """A view, a buffer or a DLPack consumer of a result counts as much as the array itself."""
    layer, x = Tanh(), rng.standard_normal((4, 30))
    held = hold(layer.forward(x))
    before = np.array(held)
    for _ in range(5):
        layer.forward(-x)
    assert_array_equal(np.array(held), before)


def test_training_allocates_nothing_after_its_first_steps(rng):
    layers = [make() for make in ACTIVATIONS.values()]
    x = rng.standard_normal((100, 300)).astype("float32")

    def step():
        y = x
        for layer in layers:
            y = layer.forward(y)
        for layer in reversed(layers):
            y = layer.backward(y)

    for _ in range(3):
        step()
    tracemalloc.start()
    try:
        for _ in range(10):
            step()
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < x.nbytes / 4  # not one array


@pytest.mark.parametrize("kind", KINDS)
def test_large_batch_runs_in_parallel_to_the_same_result(kind, rng):
    x = rng.standard_normal((500, 500)).astype("float32")
    y = KINDS[kind]().forward(x)
    assert_allclose(y, reference(kind, x), **TOL["float32"])


def test_sigmoid_without_warnings_far_out():
    layer = Sigmoid()
    with np.errstate(all="raise"):
        assert_array_equal(layer.forward(np.array([-1e4, 1e4], "float32")), [0, 1])
        assert_array_equal(layer.backward(np.array([5.0, 5.0], "float32")), [0, 0])


@pytest.mark.parametrize("kind", KINDS)
def test_errors(kind):
    layer = KINDS[kind]()
    name = type(layer).__name__
    for call, error, message in [
        (lambda: layer.backward(np.zeros(3)), RuntimeError, f"{name}: backward needs a forward before it"),
        (
            lambda: layer.forward(np.zeros((0, 3))),
            ValueError,
            f"{name}: x must hold at least one sample, got an empty array of shape (0, 3)",
        ),
        (
            lambda: layer.forward(np.array([None])),
            TypeError,
            f"{name}: x must be an array of numbers, got ndarray of Python objects",
        ),
        (
            lambda: (layer.forward(np.zeros((2, 3))), layer.backward(np.zeros((3, 2)))),
            ValueError,
            f"{name}: dout must have the shape (2, 3) of forward's output, got (3, 2)",
        ),
    ]:
        with pytest.raises(error) as caught:
            call()
        assert str(caught.value) == message
