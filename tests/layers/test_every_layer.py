"""Every layer, in both dtypes and in every layout of its arrays, against itself on the reference kernels in float64."""

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from fastnn import kernels, layers
from fastnn._warmup import EXAMPLES, layer_of
from tests.layouts import LAYOUTS

NODES = {"AddLayer", "MulLayer", "Repeat", "Sum"}  # of NumPy alone, for whatever NumPy computes with: test_nodes.py
TOL = {"float32": {"rtol": 1e-5, "atol": 1e-5}, "float64": {"rtol": 1e-12, "atol": 1e-12}}
CHOSEN = {name: LAYOUTS[name] for name in LAYOUTS if name not in ("list", "broadcast")}


def drawing(dtype):
    """Values that float32 holds, the same for each dtype."""
    rng = np.random.default_rng(0)
    return lambda *shape: rng.standard_normal(shape, "float32").astype(dtype)


def run(name, dtype, layout, samples=None):
    """Output, gradient for x, gradients for parameters."""
    draw, (make, shape, labels) = drawing(dtype), EXAMPLES[name]
    layer, x = make(draw), layout(draw(*shape)[:samples])
    before = np.array(x)
    out = layer.forward(x) if labels is None else layer.forward(x, labels(x))
    dout = layout(draw(*out.shape)) if labels is None else 0.5
    dout_before = np.array(dout)
    dx = layer.backward(dout)
    assert_array_equal(x, before)
    assert_array_equal(dout, dout_before)
    return [out, dx, *layer.grads]


def check(monkeypatch, name, dtype, layout, samples=None):
    got, ref = run(name, dtype, layout, samples), kernels.get("ref")
    with monkeypatch.context() as patch:
        patch.setattr(kernels, "get", lambda device: ref)
        expected = run(name, "float64", lambda a: a, samples)
    for mine, reference in zip(got, expected, strict=True):
        assert mine.dtype == (dtype if mine.ndim else "float64")  # a loss is a float
        assert_allclose(mine, reference, **TOL[dtype])


def test_no_layer_is_left_out():
    assert set(map(layer_of, EXAMPLES)) | NODES == set(layers.__all__)


@pytest.mark.parametrize("layout", CHOSEN)
@pytest.mark.parametrize("dtype", TOL)
@pytest.mark.parametrize("name", EXAMPLES)
def test_any_layout(monkeypatch, name, dtype, layout):
    check(monkeypatch, name, dtype, CHOSEN[layout])


@pytest.mark.parametrize("dtype", TOL)
@pytest.mark.parametrize("name", EXAMPLES)
def test_one_row(monkeypatch, name, dtype):
    check(monkeypatch, name, dtype, lambda a: a, samples=1)


@pytest.mark.parametrize("dtype", TOL)
@pytest.mark.parametrize("name", EXAMPLES)
def test_empty(name, dtype):
    who = layer_of(name)
    with pytest.raises(ValueError, match=rf"^{who}: x must hold at least one sample, got an empty array of shape .*$"):
        run(name, dtype, lambda a: a, samples=0)
