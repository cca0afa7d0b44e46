import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from fastnn import functions as F
from fastnn import layers
from fastnn.gradient import numerical_diff
from tests.layouts import LAYOUTS


def test_identity_and_step():
    x = np.array([-1.0, 0.0, 2.0])
    assert F.identity_function(x) is x
    assert_array_equal(F.step_function(x), [0, 0, 1])
    assert F.step_function(3) == 1


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("shape", [(), (0,), (5,), (2, 3, 4)], ids=str)
def test_elementwise_functions(dtype, shape, rng):
    x = np.asarray(rng.standard_normal(shape), dtype)
    s = 1 / (1 + np.exp(-x))
    for function, want in [
        (F.sigmoid, s),
        (F.sigmoid_grad, s * (1 - s)),
        (F.relu, np.maximum(x, 0)),
        (F.relu_grad, (x >= 0) * 1.0),
    ]:
        got = function(x)
        assert np.shape(got) == shape
        assert got.dtype == dtype
        assert_allclose(got, want, rtol=1e-6)


def test_activations(rng):
    x = rng.standard_normal((3, 5)) * 3
    for name, layer in {
        "sigmoid": layers.Sigmoid(),
        "relu": layers.Relu(),
        "tanh": layers.Tanh(),
        "leaky_relu": layers.LeakyRelu(),
        "softplus": layers.Softplus(),
        "gelu": layers.Gelu(),
        "silu": layers.Silu(),
    }.items():
        for dtype in ("float16", "float32", "float64"):
            assert_array_equal(getattr(F, name)(x.astype(dtype)), layer.forward(x.astype(dtype)))
        assert isinstance(getattr(F, name)(0.5), float)
    assert_array_equal(F.gelu(x, approximate="tanh"), layers.Gelu("tanh").forward(x))
    assert_array_equal(F.leaky_relu(x, 0.3), layers.LeakyRelu(0.3).forward(x))
    with pytest.raises(ValueError, match="leaky_relu: alpha must be a finite number of at least 0, got -1"):
        F.leaky_relu(x, -1)


OUT = ("sigmoid", "sigmoid_grad", "relu", "relu_grad", "tanh", "leaky_relu", "softplus", "gelu", "silu", "softmax")


@pytest.mark.parametrize("name", OUT)
@pytest.mark.parametrize("shape", [(3, 5), (200, 301)], ids=str)
def test_out(name, shape, rng):
    function, x = getattr(F, name), rng.standard_normal(shape)
    before, want = x.copy(), function(x)
    out = np.empty_like(x)
    assert function(x, out=out) is out
    assert_array_equal(out, want)
    assert_array_equal(x, before)
    assert function(x[:, ::-1], out=out) is out  # x is copied, out is not
    assert_allclose(out, function(x[:, ::-1].copy()))
    assert function(x, out=x) is x
    assert_allclose(x, want)


@pytest.mark.parametrize("name", OUT)
def test_wrong_out(name):
    function, x = getattr(F, name), np.ones((2, 3))
    read_only, both = np.ones((2, 3)), np.ones((3, 3))
    read_only.flags.writeable = False
    fits = f"{name}: out must have shape (2, 3) and dtype float64, got shape"
    for out, error, message in [
        ([1.0], TypeError, f"{name}: out must be an array of shape (2, 3) and dtype float64, got list"),
        (np.ones((3, 2)), ValueError, f"{fits} (3, 2) and dtype float64"),
        (np.ones((2, 3), "float32"), ValueError, f"{fits} (2, 3) and dtype float32"),
        (np.ones((2, 3), ">f8"), ValueError, f"{fits} (2, 3) and dtype >f8"),
        (read_only, ValueError, f"{name}: out must be writeable, contiguous and aligned, got an array that is not"),
        (
            np.ones((3, 2)).T,
            ValueError,
            f"{name}: out must be writeable, contiguous and aligned, got an array that is not",
        ),
        (both[1:], ValueError, f"{name}: out must be an input itself or not overlap it, got one that overlaps in part"),
    ]:
        with pytest.raises(error) as caught:
            function(both[:2] if out.__class__ is np.ndarray and out.base is both else x, out=out)
        assert str(caught.value) == message


def test_out_of_step_function():
    out = np.empty(3, int)
    assert F.step_function(np.array([-1.0, 0.0, 2.0]), out=out) is out
    assert_array_equal(out, [0, 0, 1])


def test_out_of_float16():
    x, out = np.linspace(-3, 3, 50, dtype="float16"), np.empty(50, "float32")
    assert F.tanh(x, out=out) is out
    assert_allclose(out, np.tanh(x.astype("float32")), rtol=1e-6)
    with pytest.raises(ValueError, match="tanh: out must have shape"):
        F.tanh(x, out=x)


def test_python_scalars_and_lists():
    assert F.sigmoid(0) == 0.5
    assert F.relu(-3) == 0
    assert isinstance(F.sigmoid(0.0), float)
    assert_array_equal(F.relu([[-1, 2]]), [[0, 2]])


@pytest.mark.parametrize(("function", "derivative"), [(F.sigmoid, F.sigmoid_grad), (F.relu, F.relu_grad)])
def test_derivatives(function, derivative):
    for x in (-3.0, -0.5, 0.7, 4.0):
        assert derivative(x) == pytest.approx(numerical_diff(function, x), abs=1e-7)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_any_layout(layout, rng):
    x = rng.standard_normal((4, 6))
    given = LAYOUTS[layout](x)
    plain = np.array(given, "float64")
    for function in (F.sigmoid, F.sigmoid_grad, F.relu, F.softmax):
        assert_allclose(function(given), function(plain))
    assert_array_equal(np.array(given), plain)


def test_softmax(rng):
    x = rng.standard_normal((2, 3, 4)) * 100
    y = F.softmax(x)
    e = np.exp(x - x.max(axis=-1, keepdims=True))
    assert_allclose(y, e / e.sum(axis=-1, keepdims=True))
    assert_allclose(
        F.softmax([0.3, 2.9, 4.0]), [0.01821127, 0.24519181, 0.73659691], rtol=1e-6
    )  # book 1, section 3.5.3
    assert F.softmax(np.zeros((0, 3))).shape == (0, 3)
    with pytest.raises(ValueError, match="softmax: x must have scores along its last axis"):
        F.softmax(1.0)


def test_log_softmax(rng):
    x = rng.standard_normal((2, 3, 4))
    out = np.empty_like(x)
    assert F.log_softmax(x, out=out) is out
    assert_allclose(out, np.log(F.softmax(x)))
    assert_array_equal(F.log_softmax(x), out)
    assert F.log_softmax(x, out=x) is x
    assert_allclose(x, out)
    with pytest.raises(ValueError, match="log_softmax: x must have scores along its last axis"):
        F.log_softmax(1.0)


def test_sum_squared_error():
    y, t = [0.1, 0.05, 0.6, 0.0, 0.05, 0.1, 0.0, 0.1, 0.0, 0.0], [0, 0, 1, 0, 0, 0, 0, 0, 0, 0]
    assert F.sum_squared_error(y, t) == pytest.approx(0.0975)  # book 1, section 4.2.1
    assert F.sum_squares_error is F.sum_squared_error
    with pytest.raises(ValueError, match=r"sum_squared_error: t must have the shape \(2,\) of y, got \(3,\)"):
        F.sum_squared_error([1, 2], [1, 2, 3])


def test_cross_entropy_error():
    y = np.array([0.1, 0.05, 0.6, 0.0, 0.05, 0.1, 0.0, 0.1, 0.0, 0.0])
    t = np.eye(10)[2]
    assert F.cross_entropy_error(y, t) == pytest.approx(0.510825457099338)  # book 1, section 4.2.2
    assert F.cross_entropy_error(y, 2) == pytest.approx(0.510825457099338)
    batch, indices = np.stack([y, y[::-1]]), np.array([2, 2])
    want = -(np.log(0.6 + 1e-7) + np.log(0.1 + 1e-7)) / 2
    assert F.cross_entropy_error(batch, indices) == pytest.approx(want)
    assert F.cross_entropy_error(batch, np.eye(10)[indices]) == pytest.approx(want)
    for bad in (np.zeros((0, 3)), 1.0):
        with pytest.raises(ValueError, match="y must hold probabilities"):
            F.cross_entropy_error(bad, [])
    with pytest.raises(ValueError, match="cross_entropy_error: t must hold class indices"):
        F.cross_entropy_error(batch, [0, 10])


def test_softmax_loss(rng):
    x, t = rng.standard_normal((5, 4)), rng.integers(4, size=5)
    assert F.softmax_loss(x, t) == pytest.approx(F.cross_entropy_error(F.softmax(x), t), abs=1e-5)
    assert np.isfinite(F.softmax_loss([[1e4, -1e4]], [1]))
