import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from fastnn import functions as F
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
