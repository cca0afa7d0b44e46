import copy
import pickle

import numpy as np
import pytest
from numpy.testing import assert_array_equal

import fastnn
from fastnn.gradient import gradient_check
from fastnn.layers import Dropout
from fastnn.models import TwoLayerNet
from fastnn.optimizer import SGD
from tests.layouts import LAYOUTS


class Always(np.random.RandomState):
    """A source of random numbers that has one only."""

    def integers(self, *_, **__):
        return 11


@pytest.mark.parametrize("inverted", [False, True])
def test_gradients(inverted, rng):
    layer = Dropout(0.4, rng=Always(), inverted=inverted)
    assert gradient_check(layer, rng.standard_normal((4, 3, 5)))["x"] < 1e-9


def test_training_drops_and_inference_scales(rng):
    x = rng.standard_normal((300, 40)) + 10
    layer = Dropout(0.3, rng=0)
    out = layer.forward(x)
    kept = out != 0
    assert_array_equal(out[kept], x[kept])
    assert kept.mean() == pytest.approx(0.7, abs=0.02)
    assert_array_equal(layer.backward(x) != 0, kept)
    assert_array_equal(layer.forward(x, train_flg=False), x * 0.7)
    assert_array_equal(layer.forward(x, False), layer.forward(x, train_flg=False))  # as the book calls it


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_inverted_scales_in_training(dtype, rng):
    x = rng.standard_normal((300, 40)).astype(dtype)
    plain, inverted = Dropout(0.3, rng=0), Dropout(0.3, rng=0, inverted=True)
    assert_array_equal(inverted.forward(x), plain.forward(x) * x.dtype.type(1 / 0.7))
    assert_array_equal(inverted.backward(x), plain.backward(x) * x.dtype.type(1 / 0.7))
    assert_array_equal(inverted.forward(x, train_flg=False), x)


def test_every_forward_draws_anew_and_a_seed_repeats_all():
    x = np.ones((5, 50), "float32")
    layer, again = Dropout(rng=3), Dropout(rng=3)
    first, second = layer.forward(x), layer.forward(x)
    assert (first != second).any()
    assert_array_equal(again.forward(x), first)
    assert_array_equal(again.forward(x), second)
    assert (Dropout(rng=4).forward(x) != first).any()


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda layer: pickle.loads(pickle.dumps(layer))])
def test_a_copy_draws_from_a_copy_of_its_source_but_for_numpys_global_one(copied):
    x = np.ones(100)
    layer = Dropout(rng=0)
    other = copied(layer)
    assert_array_equal(other.forward(x), layer.forward(x))
    layer = Dropout()
    other, state = copied(layer), np.random.get_state()
    first = other.forward(x)
    np.random.set_state(state)
    assert_array_equal(layer.forward(x), first)
    assert (other.forward(x) != first).any()


def test_random_numbers_of_numpy():
    x = np.ones(100)
    state = np.random.get_state()
    np.random.seed(0)
    first = Dropout().forward(x)
    np.random.seed(0)
    assert_array_equal(Dropout().forward(x), first)
    np.random.set_state(state)
    assert_array_equal(Dropout(rng=np.random.RandomState(0)).forward(x), first)
    generator = np.random.default_rng(0)
    assert (Dropout(rng=generator).forward(x) != Dropout(rng=generator).forward(x)).any()


@pytest.mark.parametrize("layout", LAYOUTS)
def test_any_layout(layout, rng):
    x = LAYOUTS[layout](rng.standard_normal((4, 6)))
    before = np.array(x)
    layer, plain = Dropout(rng=0), Dropout(rng=0)
    assert_array_equal(layer.forward(x), plain.forward(before.astype("float64")))
    assert_array_equal(layer.backward(x), plain.backward(before.astype("float64")))
    assert_array_equal(np.array(x), before)


def test_errors():
    for call, error, message in [
        (lambda: Dropout(1.0), ValueError, "dropout_ratio must be in [0, 1), got 1.0"),
        (lambda: Dropout(-0.1), ValueError, "dropout_ratio must be in [0, 1), got -0.1"),
        (lambda: Dropout(np.nan), ValueError, "dropout_ratio must be in [0, 1), got nan"),
        (
            lambda: Dropout().forward(np.zeros((0, 3))),
            ValueError,
            "x must hold at least one sample, got an empty array of shape (0, 3)",
        ),
        (
            lambda: (layer := Dropout(), layer.forward(np.ones(3), train_flg=False), layer.backward(np.ones(3))),
            RuntimeError,
            "backward needs a forward before it",
        ),
    ]:
        with pytest.raises(error) as caught:
            call()
        assert str(caught.value) == f"Dropout: {message}"


@pytest.mark.parametrize("wrong", ["seed", -1, 1.5, [1]])
def test_a_wrong_source_of_random_numbers(wrong):
    message = "rng must be a numpy Generator, a RandomState, an integer >= 0 or None, got"
    with pytest.raises(TypeError, match=f"^Dropout: {message}"):
        Dropout(rng=wrong)
    with pytest.raises(TypeError, match=f"^TwoLayerNet: {message}"):
        TwoLayerNet(3, 2, 2, rng=wrong)
    with pytest.raises(TypeError, match=f"^fastnn.compile: {message}"):
        fastnn.compile(TwoLayerNet(3, 2, 2), SGD()).epoch(np.ones((4, 3)), np.zeros(4, int), rng=wrong)
