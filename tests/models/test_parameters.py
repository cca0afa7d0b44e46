import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from fastnn.models import Parameters, TwoLayerNet
from fastnn.optimizer import SGD

SHAPES = {"W1": (7, 5), "b1": (5,), "W2": (5, 3), "b2": (3,)}


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_allocated_together(dtype):
    params = Parameters.allocate(SHAPES, dtype)
    assert {name: p.shape for name, p in params.items()} == SHAPES
    for i, p in enumerate(params):
        assert p.dtype == dtype
        assert p.ctypes.data % 64 == 0
        assert p.flags.carray
        p[...] = i + 1
        assert p.base is params[0].base
    for i, p in enumerate(params):  # none overlaps another
        assert_array_equal(p, i + 1)


def test_one_call_updates_all_as_one_by_one_does():
    rng = np.random.default_rng(0)
    params, grads = Parameters.allocate(SHAPES, "float64"), Parameters.allocate(SHAPES, "float64")
    for p, g in zip(params, grads, strict=True):
        p[...], g[...] = rng.standard_normal(p.shape), rng.standard_normal(p.shape)
    want = [p - 0.3 * g for p, g in zip(params, grads, strict=True)]
    SGD(0.3).update(params, grads)
    for p, w in zip(params, want, strict=True):
        assert_allclose(p, w, rtol=1e-15)


def test_parameters_of_another_layout_are_not_mixed_up():
    params = Parameters.allocate(SHAPES, "float64")
    other = Parameters.allocate({"W1": (5, 7), "b1": (5,), "W2": (5, 3), "b2": (3,)}, "float64")
    with pytest.raises(ValueError, match="SGD: gradient 0 must have the shape"):
        SGD().update(params, other)


def test_a_model_has_its_layers_arrays():
    net = TwoLayerNet(7, 5, 3)
    first, second = net.layers["Affine1"], net.layers["Affine2"]
    for name, p, g in [("W1", first.W, first.dW), ("b1", first.b, first.db), ("W2", second.W, second.dW)]:
        assert net.params[name] is p
        assert net.grads[name] is g
        assert p.base is net.params[0].base
        assert g.base is net.grads[0].base


def test_values_are_copied_into_an_array():
    params = Parameters.allocate(SHAPES, "float64")
    b1 = params["b1"]
    params["b1"] = [1, 2, 3, 4, 5]
    params[3] = np.ones(3)
    assert params["b1"] is b1
    assert_array_equal(b1, [1, 2, 3, 4, 5])
    assert_array_equal(params["b2"], np.ones(3))
    assert repr(params).startswith("Parameters(W1 (7, 5) float64, b1 (5,) float64")
