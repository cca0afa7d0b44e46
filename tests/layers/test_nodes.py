import numpy as np
import pytest
from numpy.testing import assert_array_equal

from fastnn.gradient import gradient_check
from fastnn.layers import AddLayer, MulLayer, Repeat, Sum


def test_buying_apples_and_oranges_as_in_the_book():
    """Book 1, section 5.4: two apples at 100, three oranges at 150, tax 1.1."""
    apples, oranges, fruit, tax = MulLayer(), MulLayer(), AddLayer(), MulLayer()
    price = tax.forward(fruit.forward(apples.forward(100, 2), oranges.forward(150, 3)), 1.1)
    assert price == pytest.approx(715)
    d_fruit, d_tax = tax.backward(1)
    d_apples, d_oranges = fruit.backward(d_fruit)
    assert apples.backward(d_apples) == pytest.approx((2.2, 110))
    assert oranges.backward(d_oranges) == pytest.approx((3.3, 165))
    assert d_tax == 650


def test_nodes_take_arrays():
    x, y = np.array([1.0, 2.0]), np.array([3.0, 4.0])
    mul = MulLayer()
    assert_array_equal(mul.forward(x, y), [3, 8])
    assert_array_equal(mul.backward(np.ones(2)), [[3, 4], [1, 2]])


@pytest.mark.parametrize(
    ("node", "shape"), [(Repeat(4), (1, 3)), (Repeat(1), (1, 2, 2)), (Sum(), (5, 3)), (Sum(), (1, 3))]
)
def test_gradients(node, shape, rng):
    assert gradient_check(node, rng.standard_normal(shape))["x"] < 1e-7


def test_repeat_and_sum_are_counterparts():
    x = np.array([[1.0, 2.0]])
    assert_array_equal(Repeat(3).forward(x), [[1, 2]] * 3)
    assert_array_equal(Sum().forward(Repeat(3).forward(x)), 3 * x)


def test_errors():
    with pytest.raises(ValueError, match="Repeat: N must be at least 1, got 0"):
        Repeat(0)
    with pytest.raises(ValueError, match=r"Repeat: x must have shape \(1, ...\), got \(2, 3\)"):
        Repeat(2).forward(np.zeros((2, 3)))
    with pytest.raises(ValueError, match=r"Sum: x must have at least one row, got shape \(0, 3\)"):
        Sum().forward(np.zeros((0, 3)))
    for node in (MulLayer(), Sum()):
        with pytest.raises(RuntimeError, match="backward needs a forward before it"):
            node.backward(1)
