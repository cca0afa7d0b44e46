import numpy as np
import pytest
from numpy.testing import assert_array_equal

from fastnn.layers import Flatten


def test_there_and_back_without_a_copy(rng):
    x = rng.standard_normal((3, 2, 4, 5))
    layer = Flatten()
    out = layer.forward(x)
    assert out.shape == (3, 40)
    assert np.shares_memory(out, x)
    dx = layer.backward(out)
    assert_array_equal(dx, x)
    assert np.shares_memory(dx, out)


def test_errors():
    for call, error, message in [
        (lambda: Flatten().forward(3.0), ValueError, "x must have one row per sample, got a scalar"),
        (lambda: Flatten().backward(np.zeros(3)), RuntimeError, "backward needs a forward before it"),
        (
            lambda: (layer := Flatten(), layer.forward(np.zeros((2, 3, 4))), layer.backward(np.zeros((2, 3, 4)))),
            ValueError,
            "dout must have the shape (2, 12) of forward's output, got (2, 3, 4)",
        ),
    ]:
        with pytest.raises(error) as caught:
            call()
        assert str(caught.value) == f"Flatten: {message}"
