"""SoftmaxWithLoss, SigmoidWithLoss and MeanSquaredError."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

from fastnn.functions import sum_squared_error
from fastnn.gradient import gradient_check
from fastnn.layers import MeanSquaredError, SigmoidWithLoss, SoftmaxWithLoss
from tests.layouts import LAYOUTS


def naive_softmax(x):
    return np.exp(x) / np.exp(x).sum(axis=-1, keepdims=True)


def naive(x, rows):
    """Mean cross-entropy straight from its definition."""
    return -np.mean(np.sum(rows * np.log(naive_softmax(x)), axis=-1))


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


@settings(deadline=None, max_examples=30)
@given(shape=st.sampled_from([(1,), (7,), (3, 1), (2, 3, 4)]), seed=st.integers(0, 1000))
def test_mean_squared_error_gradients(shape, seed):
    x, t = np.random.default_rng(seed).standard_normal((2, *shape))
    assert gradient_check(MeanSquaredError(), x, t)["x"] < 1e-7
    assert_allclose(MeanSquaredError().forward(x, t), np.mean((x - t) ** 2))
    half_the_sum = MeanSquaredError(x.size / 2)
    assert_allclose(half_the_sum.forward(x, t), sum_squared_error(x, t))
    assert half_the_sum.loss == half_the_sum.forward(x, t)
    assert gradient_check(half_the_sum, x, t)["x"] < 1e-7


@settings(deadline=None, max_examples=40)
@given(
    N=st.integers(1, 7),
    C=st.integers(2, 9),
    seed=st.integers(0, 1000),
    soft=st.booleans(),
    smoothing=st.sampled_from([0.0, 0.1, 1.0]),
    weighted=st.booleans(),
)
def test_options(N, C, seed, soft, smoothing, weighted):
    """By their definitions, and against differences."""
    rng = np.random.default_rng(seed)
    x, weight = rng.standard_normal((N, C)), rng.random(C) + 0.1
    t = rng.random((N, C)) if soft else rng.integers(C, size=N)
    ignore = None if soft else 0
    layer = SoftmaxWithLoss(weight=weight if weighted else None, ignore_index=ignore, label_smoothing=smoothing)
    if not soft:
        t[0] = 1  # something counts
    w = weight if weighted else np.ones(C)
    p = t if soft else np.eye(C)[t]
    q = w * ((1 - smoothing) * p + smoothing / C) * (1 if soft else (t != 0)[:, None])
    D = N if soft else w[t[t != 0]].sum()
    assert_allclose(layer.forward(x, t), -np.sum(q * np.log(naive_softmax(x))) / D)
    assert gradient_check(layer, x, t)["x"] < 1e-7
    assert np.all(layer.backward()[t == 0] == 0) or soft


def test_options_as_in_pytorch():
    """Numbers of torch.nn.functional.cross_entropy 2.13."""
    x, t = np.array([[1.0, 2.0, 0.5], [0.1, -1.0, 3.0], [2.0, 0.0, 1.0]]), np.array([1, 2, -100])
    weight = [1.0, 2.0, 0.5]
    for options, want in [
        ({}, 0.2675715015342181),
        ({"weight": weight}, 0.3856498710784542),
        ({"label_smoothing": 0.1}, 0.4242381682008848),
        ({"weight": weight, "label_smoothing": 0.1}, 0.5407248907804691),
    ]:
        assert_allclose(SoftmaxWithLoss(ignore_index=-100, **options).forward(x, t), want)


def test_options_it_does_not_take():
    for options, message in [
        ({"weight": [[1.0]]}, "SoftmaxWithLoss: weight must hold a number of at least 0 for each class, got [[1.0]]"),
        ({"weight": [1, -1]}, "SoftmaxWithLoss: weight must hold a number of at least 0 for each class, got [1, -1]"),
        ({"label_smoothing": 1.5}, "SoftmaxWithLoss: label_smoothing must lie in [0, 1], got 1.5"),
    ]:
        with pytest.raises(ValueError) as caught:
            SoftmaxWithLoss(**options)
        assert str(caught.value) == message
    x = np.zeros((2, 3))
    for options, t, message in [
        (
            {"weight": [1, 2]},
            [0, 1],
            "SoftmaxWithLoss: x must have 2 classes, as weight has, along its last axis, got (2, 3)",
        ),
        (
            {"ignore_index": 0},
            np.eye(3)[:2],
            "SoftmaxWithLoss: t must hold class indices where there is an ignore_index, got shape (2, 3)",
        ),
        ({"ignore_index": -1}, [-1, 3], "SoftmaxWithLoss: t must hold class indices in [0, 3), got 3"),
        ({"ignore_index": 9}, [9, -1], "SoftmaxWithLoss: t must hold class indices in [0, 3), got -1"),
    ]:
        with pytest.raises(ValueError) as caught:
            SoftmaxWithLoss(**options).forward(x, t)
        assert str(caught.value) == message
    assert np.isnan(SoftmaxWithLoss(ignore_index=-1).forward(x, [-1, -1]))


def test_the_gradient_is_given_away_once(rng):
    """What its holder does with it changes nothing."""
    x, t = rng.standard_normal((4, 3)), np.array([0, 1, 2, 0])
    layer = SoftmaxWithLoss()
    layer.forward(x, t)
    first = layer.backward()
    want = first.copy()
    first[...] = np.nan
    second = layer.backward()
    assert_array_equal(second, want)
    layer.forward(2 * x, t)
    assert_array_equal(second, want)
    layer.backward()
    assert_array_equal(second, want)


@pytest.mark.parametrize("layer", [SoftmaxWithLoss, SigmoidWithLoss])
def test_y_is_that_of_the_last_forward(layer, rng):
    layer = layer()
    assert layer.y is None
    for x in rng.standard_normal((2, 3, 5)):
        layer.forward(x, np.eye(3, 5))
        e = np.exp(x)
        want = e / e.sum(axis=1, keepdims=True) if isinstance(layer, SoftmaxWithLoss) else e / (1 + e)
        assert_allclose(layer.y, want)


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
    for layer, t in [(SoftmaxWithLoss(), [0, 1, 2]), (SigmoidWithLoss(), np.eye(3, 4)), (MeanSquaredError(), x + 1)]:
        layer.forward(x, t)
        assert_allclose(layer.backward(3), 3 * layer.backward())


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("where", ["x", "t"])
def test_any_layout(layout, where, rng):
    x, t = rng.standard_normal((4, 6)), np.eye(6)[[1, 0, 5, 2]]
    for layer in (SoftmaxWithLoss(), SigmoidWithLoss(), MeanSquaredError()):
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


@pytest.mark.parametrize("layer", [SoftmaxWithLoss(), SigmoidWithLoss(), MeanSquaredError()])
def test_backward_needs_forward(layer):
    with pytest.raises(RuntimeError, match="backward needs a forward before it"):
        layer.backward()


def test_labels_that_change_between_forward_and_backward_cannot_write_elsewhere(rng):
    x, t = rng.standard_normal((4, 3)), np.array([0, 1, 2, 0])
    layer = SoftmaxWithLoss()
    layer.forward(x, t)
    t[1] = 2**40
    assert np.isfinite(layer.backward()).all()  # of the labels that forward saw
    with pytest.raises(ValueError, match="t must hold class indices in"):
        layer.backward()
