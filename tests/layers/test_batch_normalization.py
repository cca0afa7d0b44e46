import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from fastnn.gradient import gradient_check
from fastnn.layers import BatchNormalization
from tests.layouts import LAYOUTS


def book(x, gamma, beta):
    """Book 1, section 6.3, as its layer computes it: rows of values."""
    mu = x.mean(axis=0)
    xc = x - mu
    var = np.mean(xc**2, axis=0)
    return gamma * xc / np.sqrt(var + 10e-7) + beta, mu, var


def layer_for(size, rng, dtype="float64", **options):
    gamma, beta = rng.standard_normal((2, size)).astype(dtype)
    return BatchNormalization(gamma, beta, **options)


# x -> size of gamma: rows, one channel each, one value each; and images of one place
SHAPES = [((6, 5), 5), ((4, 3, 2, 5), 3), ((4, 3, 2, 5), 30), ((6, 3, 1, 1), 3)]


@pytest.mark.parametrize(("shape", "size"), SHAPES, ids=str)
def test_gradients(shape, size, rng):
    errors = gradient_check(layer_for(size, rng), rng.standard_normal(shape))
    assert list(errors) == ["x", "gamma", "beta"]
    assert max(errors.values()) < 1e-6


@pytest.mark.parametrize(("shape", "size"), SHAPES, ids=str)
@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 1e-5), ("float64", 1e-13)])
def test_is_the_book_s(shape, size, dtype, tolerance, rng):
    x = rng.standard_normal(shape).astype(dtype)
    layer = layer_for(size, rng, dtype, momentum=0.7)
    by_value = x.ndim == 2 or size > shape[1]
    rows = x.reshape(len(x), -1) if by_value else np.moveaxis(x, 1, -1).reshape(-1, size)
    want, mu, var = book(rows.astype("float64"), layer.gamma, layer.beta)
    if not by_value:
        want = np.moveaxis(want.reshape(shape[0], *shape[2:], size), -1, 1)
    out = layer.forward(x)
    assert out.dtype == dtype
    assert_allclose(out, want.reshape(shape), atol=tolerance)
    assert_allclose(layer.running_mean, 0.3 * mu, atol=tolerance)  # they start at 0, as in the book
    assert_allclose(layer.running_var, 0.3 * var, atol=tolerance)


def test_eps(rng):
    layer, x = layer_for(5, rng, eps=0.5), rng.standard_normal((8, 5))
    want = layer.gamma * (x - x.mean(axis=0)) / np.sqrt(x.var(axis=0) + 0.5) + layer.beta
    assert_allclose(layer.forward(x), want)
    want = layer.gamma * (x - layer.running_mean) / np.sqrt(layer.running_var + 0.5) + layer.beta
    assert_allclose(layer.forward(x, False), want)
    assert max(gradient_check(layer, x).values()) < 1e-6


@pytest.mark.parametrize(("shape", "size"), SHAPES, ids=str)
def test_inference_uses_the_running_averages_and_leaves_them(shape, size, rng):
    mean, var = rng.standard_normal(size), rng.random(size)
    layer = layer_for(size, rng, running_mean=mean, running_var=var)
    x = rng.standard_normal(shape)

    def along(a):
        return a.reshape(shape[1:]) if a.size == x[0].size else a.reshape(-1, *[1] * (x.ndim - 2))

    want = along(layer.gamma) * (x - along(mean)) / np.sqrt(along(var) + 1e-6) + along(layer.beta)
    assert_allclose(layer.forward(x, False), want)  # the argument as the book gives it
    assert_array_equal(layer.running_mean, mean)
    layer.forward(x)
    assert (layer.running_mean != mean).all()
    assert np.shares_memory(layer.gamma, layer.params[0])
    assert not np.shares_memory(layer.running_mean, mean)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("where", ["x", "gamma", "dout"])
def test_any_layout(where, layout, rng):
    arrays = dict(zip(("x", "dout"), rng.standard_normal((2, 4, 3, 2, 5)), strict=True), gamma=rng.standard_normal(3))
    varied = LAYOUTS[layout](arrays[where])
    before = np.array(varied)
    results = []
    for value in (before.astype("float64"), varied):
        a = {**arrays, where: value}
        layer = BatchNormalization(a["gamma"], np.zeros(3))
        results.append([layer.forward(a["x"]).copy(), layer.backward(a["dout"]), layer.dgamma, layer.dbeta])
    for want, got in zip(*results, strict=True):
        assert_allclose(got, want, rtol=1e-13, atol=1e-13)
    assert_array_equal(np.array(varied), before)


def test_mixed_dtypes(rng):
    layer = layer_for(3, rng, "float32")
    x = rng.standard_normal((7, 3))
    assert layer.forward(x).dtype == "float64"
    layer.backward(x)
    assert layer.dgamma.dtype == "float32"
    other = layer_for(3, np.random.default_rng(0), "float64")
    other.forward(x)
    other.backward(x)
    assert_allclose(layer.dbeta, other.dbeta, rtol=1e-6)


def test_errors():
    ones, zeros = np.ones(3), np.zeros(3)
    layer = BatchNormalization(ones, zeros)
    for call, error, message in [
        (lambda: BatchNormalization(ones, np.zeros(2)), ValueError, "beta must have the shape (3,) of gamma, got (2,)"),
        (
            lambda: BatchNormalization(ones, zeros, running_var=np.ones(4)),
            ValueError,
            "running_var must have the shape (3,) of gamma, got (4,)",
        ),
        (lambda: BatchNormalization(ones, zeros, momentum=2), ValueError, "momentum must be in [0, 1], got 2"),
        (lambda: BatchNormalization(ones, zeros, eps=0), ValueError, "eps must be a positive number, got 0"),
        (
            lambda: layer.forward(np.zeros((5, 4))),
            ValueError,
            "x must have 3 channels or values a sample to fit gamma, got shape (5, 4)",
        ),
        (
            lambda: layer.forward(np.zeros(3)),
            ValueError,
            "x must have 3 channels or values a sample to fit gamma, got shape (3,)",
        ),
        (
            lambda: (layer.forward(np.ones((5, 3)), train_flg=False), layer.backward(np.ones((5, 3)))),
            RuntimeError,
            "backward needs a forward before it",
        ),
        (
            lambda: (layer.forward(np.ones((5, 3))), layer.backward(np.ones((4, 3)))),
            ValueError,
            "dout must have the shape (5, 3) of forward's output, got (4, 3)",
        ),
    ]:
        with pytest.raises(error) as caught:
            call()
        assert str(caught.value) == f"BatchNormalization: {message}"
