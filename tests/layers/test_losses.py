"""SoftmaxWithLoss and SigmoidWithLoss."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

from fastnn.gradient import gradient_check
from fastnn.layers import SigmoidWithLoss, SoftmaxWithLoss
from tests.layouts import LAYOUTS


def naive(x, rows):
    """Mean cross-entropy straight from its definition."""
    y = np.exp(x) / np.exp(x).sum(axis=-1, keepdims=True)
    return -np.mean(np.sum(rows * np.log(y), axis=-1))


@settings(deadline=None, max_examples=30)
@given(N=st.integers(1, 7), C=st.integers(2, 9), seed=st.integers(0, 1000), soft=st.booleans())
def test_softmax_gradients(N, C, seed, soft):
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((N, C))
    t = rng.random((N, C)) if soft else rng.integers(C, size=N)
    assert gradient_check(SoftmaxWithLoss(), x, t)["x"] < 1e-7
    assert_allclose(SoftmaxWithLoss().forward(x, t), naive(x, t if soft else np.eye(C)[t]))


@settings(deadline=None, max_examples=30)
@given(shape=st.sampled_from([(1,), (7,), (3, 1), (4, 5), (2, 3, 4)]), seed=st.integers(0, 1000), soft=st.booleans())
def test_sigmoid_gradients(shape, seed, soft):
    rng = np.random.default_rng(seed)
    x = rng.standard_normal(shape)
    t = rng.random(shape) if soft else rng.integers(2, size=shape)
    assert gradient_check(SigmoidWithLoss(), x, t)["x"] < 1e-7
    y = 1 / (1 + np.exp(-x))
    assert_allclose(SigmoidWithLoss().forward(x, t), -np.mean(t * np.log(y) + (1 - t) * np.log(1 - y)))


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64", ">i4"])
def test_class_indices_of_any_integer_dtype(dtype, rng):
    x, t = rng.standard_normal((5, 4)), np.array([0, 3, 1, 2, 3])
    layer = SoftmaxWithLoss()
    assert layer.forward(x, t.astype(dtype)) == SoftmaxWithLoss().forward(x, t) == layer.loss
    assert_allclose(layer.y.sum(axis=1), 1)


@pytest.mark.parametrize("dtype", ["int64", "uint8", "bool", "float32", "float64", "float16"])
def test_one_hot_labels_of_any_dtype(dtype, rng):
    x, t = rng.standard_normal((5, 4)), np.array([0, 3, 1, 2, 3])
    one_hot, indices = SoftmaxWithLoss(), SoftmaxWithLoss()
    assert_allclose(one_hot.forward(x, np.eye(4)[t].astype(dtype)), indices.forward(x, t))
    assert_allclose(one_hot.backward(), indices.backward(), atol=1e-16)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_finite_for_extreme_scores(dtype):
    layer = SoftmaxWithLoss()
    x = np.array([[1e4, -1e4], [-1e4, 1e4]], dtype)
    with np.errstate(all="raise"):
        assert layer.forward(x, [0, 0]) == 1e4
        assert_array_equal(layer.backward(), np.array([[0, 0], [-0.5, 0.5]]))
        assert SigmoidWithLoss().forward(np.array([1e4, -1e4], dtype), [0, 0]) == 5e3


def test_one_sample_and_extra_batch_axes(rng):
    x = rng.standard_normal((2, 3, 4))
    t = rng.integers(4, size=(2, 3))
    layer = SoftmaxWithLoss()
    together = layer.forward(x, t)
    assert layer.backward().shape == x.shape
    singles = [layer.forward(x[i, j], t[i, j]) for i in range(2) for j in range(3)]
    assert_allclose(together, np.mean(singles))
    assert layer.backward().shape == (4,)
    assert_allclose(layer.forward(x[1, 2], np.eye(4)[t[1, 2]]), singles[-1])
    assert_allclose(layer.forward(x[1, 2], [t[1, 2]]), singles[-1])


def test_dout_scales_the_gradient(rng):
    x = rng.standard_normal((3, 4))
    for layer, t in ((SoftmaxWithLoss(), [0, 1, 2]), (SigmoidWithLoss(), np.eye(3, 4))):
        layer.forward(x, t)
        assert_allclose(layer.backward(3), 3 * layer.backward())


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("where", ["x", "t"])
def test_any_layout(layout, where, rng):
    x, t = rng.standard_normal((4, 6)), np.eye(6)[[1, 0, 5, 2]]
    for layer in (SoftmaxWithLoss(), SigmoidWithLoss()):
        given_ = {"x": x, "t": t}
        given_[where] = LAYOUTS[layout](given_[where])
        plain = {name: np.array(a, "float64") for name, a in given_.items()}
        before = np.array(given_[where])
        loss, dx = layer.forward(**given_), layer.backward()
        assert_allclose(loss, layer.forward(**plain))
        assert_allclose(dx, layer.backward())
        assert_array_equal(np.array(given_[where]), before)


@pytest.mark.parametrize(
    ("x", "t", "error", "message"),
    [
        (
            np.zeros((0, 3)),
            [],
            ValueError,
            "SoftmaxWithLoss: x must hold at least one sample, got an empty array of shape (0, 3)",
        ),
        (np.zeros((2, 3)), [0, 3], ValueError, "SoftmaxWithLoss: t must hold class indices in [0, 3), got 3"),
        (np.zeros((2, 3)), [0, -1], ValueError, "SoftmaxWithLoss: t must hold class indices in [0, 3), got -1"),
        (
            np.zeros((2, 3)),
            np.array([0, 2**64 - 1], "uint64"),
            ValueError,
            "SoftmaxWithLoss: t must hold class indices in [0, 3), got -1",
        ),
        (
            np.zeros((2, 3)),
            [0, 1, 2],
            ValueError,
            "SoftmaxWithLoss: t must be class indices of shape (2,) or labels of shape (2, 3), got shape (3,)",
        ),
        (
            np.zeros((2, 3)),
            [[0], [1]],
            ValueError,
            "SoftmaxWithLoss: t must be class indices of shape (2,) or labels of shape (2, 3), got shape (2, 1)",
        ),
        (
            np.zeros((2, 3)),
            [0.0, 1.0],
            TypeError,
            "SoftmaxWithLoss: t must hold integers (class indices), got dtype float64",
        ),
        (
            np.zeros((2, 3)),
            [0.0, np.nan],
            TypeError,
            "SoftmaxWithLoss: t must hold integers (class indices), got dtype float64",
        ),
        (
            np.zeros((1, 3)),
            [[0.0, np.nan, 1]],
            ValueError,
            "SoftmaxWithLoss: t must hold finite labels, got NaN or infinity",
        ),
        (
            np.zeros((1, 3)),
            [[0.0, np.inf, -np.inf]],
            ValueError,
            "SoftmaxWithLoss: t must hold finite labels, got NaN or infinity",
        ),
        (
            np.zeros((2, 3)),
            [0, None],
            TypeError,
            "SoftmaxWithLoss: t must be an array of numbers, got list of Python objects",
        ),
        (1.0, 0, ValueError, "SoftmaxWithLoss: x must have scores along its last axis, got a scalar"),
    ],
)
def test_softmax_errors(x, t, error, message):
    with pytest.raises(error) as caught:
        SoftmaxWithLoss().forward(x, t)
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("x", "t", "error", "message"),
    [
        (
            np.zeros(0),
            [],
            ValueError,
            "SigmoidWithLoss: x must hold at least one sample, got an empty array of shape (0,)",
        ),
        (np.zeros(2), [0, 2], ValueError, "SigmoidWithLoss: t must lie in [0, 1], got values from 0.0 to 2.0"),
        (np.zeros(2), [0, np.nan], ValueError, "SigmoidWithLoss: t must lie in [0, 1], got values from nan to nan"),
        (np.zeros(2), [0], ValueError, "SigmoidWithLoss: t must have the shape (2,) of x, got (1,)"),
    ],
)
def test_sigmoid_errors(x, t, error, message):
    with pytest.raises(error) as caught:
        SigmoidWithLoss().forward(x, t)
    assert str(caught.value) == message


@pytest.mark.parametrize("layer", [SoftmaxWithLoss(), SigmoidWithLoss()])
def test_backward_needs_forward(layer):
    with pytest.raises(RuntimeError, match="backward needs a forward before it"):
        layer.backward()


def test_labels_that_change_between_forward_and_backward_cannot_write_elsewhere(rng):
    x, t = rng.standard_normal((4, 3)), np.array([0, 1, 2, 0])
    layer = SoftmaxWithLoss()
    layer.forward(x, t)
    t[1] = 2**40
    assert_array_equal(layer.backward()[1], layer.y[1] / 4)
