import numpy as np
import pytest
from numpy.testing import assert_array_equal

from fastnn.gradient import gradient_check
from fastnn.layers import AveragePooling, Pooling
from tests.layouts import LAYOUTS

KINDS = [Pooling, AveragePooling]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("arguments", [(2, 2), (3, 2, 1), (3, 3, 2, 1), (1, 1, 3), (2, 2, 3)], ids=str)
def test_gradients(kind, arguments, rng):
    x = rng.permutation(2 * 3 * 6 * 5).reshape(2, 3, 6, 5) / 10  # no two maxima are near each other
    layer = kind(*arguments)
    assert gradient_check(layer, x)["x"] < 1e-7
    pool_h, pool_w, stride, pad = layer.pool_h, layer.pool_w, layer.stride, layer.pad
    assert layer.forward(x).shape == (2, 3, (6 + 2 * pad - pool_h) // stride + 1, (5 + 2 * pad - pool_w) // stride + 1)


def test_stride_is_2_unless_told():
    assert_array_equal(Pooling(3, 3).forward(np.arange(25.0).reshape(1, 1, 5, 5)), [[[[12, 14], [22, 24]]]])


def test_padding_is_no_maximum_but_counts_in_the_mean():
    x = np.full((1, 1, 2, 2), -4.0)
    assert_array_equal(Pooling(2, 2, pad=1).forward(x), x)
    assert_array_equal(AveragePooling(2, 2, pad=1).forward(x), x / 4)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_any_layout(kind, layout, rng):
    x, dout = LAYOUTS[layout](rng.standard_normal((3, 2, 6, 6))), LAYOUTS[layout](rng.standard_normal((3, 2, 3, 3)))
    before = np.array(x), np.array(dout)
    layer, plain = kind(2, 2), kind(2, 2)
    assert_array_equal(layer.forward(x), plain.forward(before[0].astype("float64")))
    assert_array_equal(layer.backward(dout), plain.backward(before[1].astype("float64")))
    assert_array_equal(np.array(x), before[0])
    assert_array_equal(np.array(dout), before[1])


@pytest.mark.parametrize("kind", KINDS)
def test_held_results_are_never_overwritten(kind, rng):
    layer = kind(2, 2)
    xs = rng.standard_normal((5, 2, 1, 4, 4)).astype("float32")
    results = [(layer.forward(x), layer.backward(np.ones((2, 1, 2, 2), "float32"))) for x in xs]
    for x, (out, dx) in zip(xs, results, strict=True):
        fresh = kind(2, 2)
        assert_array_equal(out, fresh.forward(x))
        assert_array_equal(dx, fresh.backward(np.ones((2, 1, 2, 2), "float32")))


@pytest.mark.parametrize("kind", KINDS)
def test_errors(kind):
    name = kind.__name__
    images = np.zeros((1, 1, 4, 4))
    for call, error, message in [
        (lambda: kind(0, 2), ValueError, "pool_h must be an integer of at least 1, got 0"),
        (lambda: kind(2, 2.5), ValueError, "pool_w must be an integer of at least 1, got 2.5"),
        (lambda: kind(2, 2, stride=0), ValueError, "stride must be an integer of at least 1, got 0"),
        (lambda: kind(2, 2, pad=-1), ValueError, "pad must be an integer of at least 0, got -1"),
        (lambda: kind(3, 2, pad=2), ValueError, "pad must be less than pool_h and pool_w, 3 and 2, got 2"),
        (
            lambda: kind(2, 2).forward(np.zeros((4, 4))),
            ValueError,
            "x must be images of shape (N, C, H, W), got shape (4, 4)",
        ),
        (
            lambda: kind(2, 2).forward(np.zeros((0, 1, 4, 4))),
            ValueError,
            "x must hold at least one sample, got an empty array of shape (0, 1, 4, 4)",
        ),
        (
            lambda: kind(7, 3, pad=1).forward(images),
            ValueError,
            "x must have images of at least 7 x 3, padding of 1 included, got 4 x 4",
        ),
        (lambda: kind(2, 2).backward(images), RuntimeError, "backward needs a forward before it"),
        (
            lambda: (layer := kind(2, 2), layer.forward(images), layer.backward(images)),
            ValueError,
            "dout must have the shape (1, 1, 2, 2) of forward's output, got (1, 1, 4, 4)",
        ),
    ]:
        with pytest.raises(error) as caught:
            call()
        assert str(caught.value) == f"{name}: {message}"
