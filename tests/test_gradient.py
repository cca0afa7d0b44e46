import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from fastnn.gradient import gradient_check, gradient_descent, numerical_diff, numerical_gradient
from fastnn.layers import Affine, Relu, SoftmaxWithLoss
from fastnn.models import TwoLayerNet


def test_numerical_diff():
    def f(x):
        return 0.01 * x**2 + 0.1 * x  # book 1, section 4.3.2

    assert numerical_diff(f, 5) == pytest.approx(0.2)
    assert numerical_diff(f, 10) == pytest.approx(0.3)


@pytest.mark.parametrize("shape", [(), (3,), (2, 3), (2, 1, 3)], ids=str)
def test_numerical_gradient_of_any_shape(shape, rng):
    x = np.asarray(rng.standard_normal(shape))
    before = x.copy()
    assert_allclose(numerical_gradient(lambda x: np.sum(x**3), x), 3 * x**2, atol=1e-7)
    assert_array_equal(x, before)


def test_numerical_gradient_changes_x_itself_and_restores_it_on_errors():
    W = np.ones(2)
    assert_allclose(numerical_gradient(lambda _: np.sum(W**2), W), [2, 2])

    def fail(x):
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        numerical_gradient(fail, W)
    assert_array_equal(W, [1, 1])


@pytest.mark.parametrize("x", [np.array([3, 4]), [3.0, 4.0]])
def test_numerical_gradient_needs_floats(x):
    with pytest.raises(TypeError, match="numerical_gradient: x must be an array of floats"):
        numerical_gradient(np.sum, x)


def test_gradient_descent():
    start = np.array([-3.0, 4.0])
    x = gradient_descent(lambda x: np.sum(x**2), start, lr=0.1, step_num=100)
    assert_allclose(x, 0, atol=1e-8)  # book 1, section 4.4.1
    assert_array_equal(start, [-3, 4])
    x, way = gradient_descent(lambda x: np.sum(x**2), start, lr=0.1, step_num=5, history=True)
    assert way.shape == (5, 2)
    assert_array_equal(way[0], start)
    assert_allclose(x, way[-1] * 0.8)
    assert_allclose(gradient_descent(lambda x: np.sum(x**2), [3, 4], lr=0.5, step_num=1), 0, atol=1e-8)  # integers


class Wrong(Affine):
    def backward(self, dout):
        dx = super().backward(dout)
        self.db[...] *= 1.001
        return -dx


def test_gradient_check_finds_what_is_wrong(rng):
    errors = gradient_check(Wrong(rng.standard_normal((3, 2)), np.ones(2)), rng.standard_normal((4, 3)))
    assert errors["x"] > 1
    assert errors["W"] < 1e-7
    assert 1e-4 < errors["b"] < 1e-2


def test_gradient_check_of_losses_and_models(rng):
    x, t = rng.standard_normal((5, 4)), rng.integers(3, size=5)
    assert list(gradient_check(SoftmaxWithLoss(), rng.standard_normal((5, 3)), t)) == ["x"]
    model = TwoLayerNet(4, 6, 3, weight_init_std=1.0, dtype="float64", rng=0)
    errors = gradient_check(model, x, t)
    assert list(errors) == ["x", "W1", "b1", "W2", "b2"]
    assert max(errors.values()) < 1e-7


def test_gradient_check_leaves_input_and_parameters(rng):
    x = rng.standard_normal((5, 4))
    model = TwoLayerNet(4, 6, 3, dtype="float64", rng=0)
    before = [x.copy(), *(p.copy() for p in model.params)]
    gradient_check(model, x, np.zeros(5, int))
    for a, b in zip([x, *model.params], before, strict=True):
        assert_array_equal(a, b)


def test_gradient_check_of_zero_gradients():
    assert gradient_check(Relu(), -np.ones((2, 3))) == {"x": 0.0}
