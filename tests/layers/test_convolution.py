import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from fastnn.gradient import gradient_check
from fastnn.layers import Affine, Convolution, Relu, SoftmaxWithLoss
from fastnn.models import Network
from tests.layouts import LAYOUTS


def make(dtype="float64", **options):
    rng = np.random.default_rng(0)
    return Convolution(rng.standard_normal((4, 2, 3, 2)).astype(dtype), rng.standard_normal(4).astype(dtype), **options)


OPTIONS = {
    "plain": {},
    "stride": {"stride": 2},
    "pairs": {"stride": (1, 3), "pad": (0, 2), "dilation": (2, 1)},
    "groups": {"groups": 2, "pad": 1},
    "pad beyond the filter": {"pad": 4},
}


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_gradients(options, rng):
    layer = make(**options)
    x = rng.standard_normal((2, 2 * layer.groups, 5, 6))
    errors = gradient_check(layer, x)
    assert list(errors) == ["x", "W", "b"]
    assert max(errors.values()) < 1e-7


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("where", ["x", "W", "b", "dout"])
def test_any_layout(where, layout, rng):
    layer = make()
    arrays = {"x": rng.standard_normal((3, 2, 5, 5)), "W": layer.W, "b": layer.b}
    arrays["dout"] = rng.standard_normal((3, 4, 3, 4))
    varied = LAYOUTS[layout](arrays[where])
    before = np.array(varied)
    results = []
    for value in (np.ascontiguousarray(before, "float64"), varied):
        a = {**arrays, where: value}
        layer = Convolution(a["W"], a["b"])
        results.append([layer.forward(a["x"]).copy(), layer.backward(a["dout"]), layer.dW, layer.db])
    for want, got in zip(*results, strict=True):
        assert_array_equal(got, want)
    assert_array_equal(np.array(varied), before)


@pytest.mark.parametrize(
    ("x_dtype", "W_dtype", "out_dtype"),
    [
        ("float64", "float32", "float64"),
        ("float32", "float64", "float64"),
        ("uint8", "float32", "float32"),
        ("float16", "float16", "float32"),
    ],
)
def test_promotion(x_dtype, W_dtype, out_dtype):
    x, W, b = np.ones((1, 1, 3, 3), x_dtype), np.ones((1, 1, 2, 2), W_dtype), np.ones(1, W_dtype)
    layer = Convolution(W, b)
    out = layer.forward(x)
    assert out.dtype == out_dtype
    assert_array_equal(out, np.full((1, 1, 2, 2), 5))
    layer.backward(out)
    assert layer.dW.dtype == layer.W.dtype
    assert_array_equal(layer.dW, np.full((1, 1, 2, 2), 20))
    assert_array_equal(layer.db, [20])


def test_the_books_attributes(rng):
    layer = make(stride=2, pad=(1, 0))
    assert layer.x is None
    assert (layer.stride, layer.pad) == ((2, 2), (1, 0))
    assert layer.params == [layer.W, layer.b]
    x, dW = rng.standard_normal((1, 2, 6, 6)), layer.dW
    layer.backward(layer.forward(x))
    assert layer.x is x
    assert layer.grads[0] is layer.dW is dW
    assert layer.backward(layer.forward(x), input_gradient=False) is None


def test_relu_in_the_same_pass(rng):
    x, t = rng.standard_normal((5, 2, 4, 4)), rng.integers(0, 3, 5)

    def network(convolution, relu):
        layers = {"conv": convolution, "relu": relu, "affine": Affine(np.ones((24, 3)), np.zeros(3))}
        return Network(layers, SoftmaxWithLoss())

    class Plain(Relu):
        pass

    fused, plain = network(make(), Relu()), network(make(), Plain())
    assert_array_equal(fused.layers["conv"].forward_activated(x, Relu()), Relu().forward(make().forward(x)))
    assert fused.loss(x, t) == plain.loss(x, t)
    for got, want in zip(fused.gradient(x, t), plain.gradient(x, t), strict=True):
        assert_allclose(got, want)


W, B = np.zeros((4, 2, 3, 3)), np.zeros(4)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (
            lambda: Convolution(np.zeros((4, 3)), B),
            ValueError,
            "Convolution: W must be a non-empty array with 4 axes, got shape (4, 3)",
        ),
        (
            lambda: Convolution(W, np.zeros(3)),
            ValueError,
            "Convolution: b must have shape (4,) to fit W of shape (4, 2, 3, 3), got (3,)",
        ),
        (
            lambda: Convolution(W, B, stride=0),
            ValueError,
            "Convolution: stride must be an int, or a pair, of at least 1, got 0",
        ),
        (
            lambda: Convolution(W, B, pad=(1, -1)),
            ValueError,
            "Convolution: pad must be an int, or a pair, of at least 0, got (1, -1)",
        ),
        (
            lambda: Convolution(W, B, dilation=(1, 1, 1)),
            ValueError,
            "Convolution: dilation must be an int, or a pair, of at least 1, got (1, 1, 1)",
        ),
        (
            lambda: Convolution(W, B, stride=1.5),
            ValueError,
            "Convolution: stride must be an int, or a pair, of at least 1, got 1.5",
        ),
        (
            lambda: Convolution(W, B, groups=3),
            ValueError,
            "Convolution: groups must divide the 4 filters of W, got 3",
        ),
        (
            lambda: Convolution(W, B).forward(np.zeros((2, 3, 5, 5))),
            ValueError,
            "Convolution: x must be images (N, 2, H, W) to fit W of shape (4, 2, 3, 3), got shape (2, 3, 5, 5)",
        ),
        (
            lambda: Convolution(W, B, groups=2).forward(np.zeros((2, 2, 5, 5))),
            ValueError,
            "Convolution: x must be images (N, 4, H, W) to fit W of shape (4, 2, 3, 3) in 2 groups, "
            "got shape (2, 2, 5, 5)",
        ),
        (
            lambda: Convolution(W, B).forward(np.zeros((2, 5, 5))),
            ValueError,
            "Convolution: x must be images (N, 2, H, W) to fit W of shape (4, 2, 3, 3), got shape (2, 5, 5)",
        ),
        (
            lambda: Convolution(W, B).forward(np.zeros((0, 2, 5, 5))),
            ValueError,
            "Convolution: x must hold at least one sample, got an empty array of shape (0, 2, 5, 5)",
        ),
        (
            lambda: Convolution(W, B, dilation=2, pad=1).forward(np.zeros((2, 2, 2, 5))),
            ValueError,
            "Convolution: x must be at least as large, padded, as the (5, 5) that a filter spans, "
            "got (2, 5) and pad (1, 1)",
        ),
        (
            lambda: Convolution(W, B).backward(np.zeros((2, 4, 3, 3))),
            RuntimeError,
            "Convolution: backward needs a forward before it",
        ),
    ],
)
def test_errors(call, error, message):
    with pytest.raises(error) as caught:
        call()
    assert str(caught.value) == message


def test_an_exchanged_parameter_must_fit(rng):
    layer, x = Convolution(rng.standard_normal((2, 1, 3, 3)), np.zeros(2)), rng.standard_normal((1, 1, 5, 5))
    y = layer.forward(x)
    layer.grads[0] = np.zeros((1, 1, 3, 3))
    with pytest.raises(ValueError, match="Convolution: grads must have the shapes of params, got"):
        layer.backward(y)
    layer.params[1] = np.zeros(1)
    with pytest.raises(
        ValueError, match=r"Convolution: b must have shape \(2,\) to fit W of shape \(2, 1, 3, 3\), got"
    ):
        layer.forward(x)


def test_gradient_of_another_shape():
    layer = Convolution(W, B)
    layer.forward(np.zeros((1, 2, 5, 5)))
    with pytest.raises(ValueError, match=r"dout must have the shape \(1, 4, 3, 3\) of forward's output"):
        layer.backward(np.zeros((1, 4, 3, 2)))
