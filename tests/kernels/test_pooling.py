"""max_pooling and average_pooling, against the float64 reference."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

import fastnn
from fastnn.kernels import ref
from tests.tolerances import TOL


def pool(k, kind, x, dout, pool_h, pool_w, stride, pad):
    """Everything that the kernels of a kind write."""
    geometry = (pool_h, pool_w, stride, pad)
    out, dx = np.full(dout.shape, np.nan, x.dtype), np.full(x.shape, np.nan, x.dtype)
    if kind == "average":
        k.average_pooling_forward(x, *geometry, out)
        k.average_pooling_backward(dout, *geometry, dx)
        return {"out": out, "dx": dx}
    argmax = np.full(dout.shape, 99, np.min_scalar_type(pool_h * pool_w - 1))
    k.max_pooling_forward(x, *geometry, out, argmax)
    k.max_pooling_backward(dout, argmax, *geometry, dx)
    return {"out": out, "argmax": argmax, "dx": dx}


def out_size(n, size, stride, pad):
    return (n + 2 * pad - size) // stride + 1


@st.composite
def geometries(draw):
    """((N, C, H, W), pool_h, pool_w, stride, pad) with at least one window, often the one of its own kernel."""
    if draw(st.booleans()):
        return (2, 2, draw(st.integers(2, 9)), draw(st.integers(2, 70))), 2, 2, 2, 0
    pool_h, pool_w = draw(st.integers(1, 4)), draw(st.integers(1, 4))
    pad = draw(st.integers(0, min(pool_h, pool_w) - 1))
    H, W = draw(st.integers(max(1, pool_h - 2 * pad), 9)), draw(st.integers(max(1, pool_w - 2 * pad), 9))
    return (2, 2, H, W), pool_h, pool_w, draw(st.integers(1, 5)), pad


def inputs(shape, geometry, dtype, seed=0):
    """Images with many equal values, and a gradient."""
    rng = np.random.default_rng(seed)
    N, C, H, W = shape
    pool_h, pool_w, stride, pad = geometry
    dout = rng.standard_normal((N, C, out_size(H, pool_h, stride, pad), out_size(W, pool_w, stride, pad)))
    return rng.integers(-2, 3, shape).astype(dtype), dout.astype(dtype)


@pytest.mark.parametrize("dtype", TOL)
@pytest.mark.parametrize("kind", ["max", "average"])
@settings(deadline=None, max_examples=60)
@given(case=geometries(), seed=st.integers(0, 1000))
def test_matches_reference(k, kind, dtype, case, seed):
    shape, *geometry = case
    x, dout = inputs(shape, geometry, dtype, seed)
    want = pool(ref, kind, x.astype("float64"), dout.astype("float64"), *geometry)
    for name, got in pool(k, kind, x, dout, *geometry).items():
        assert_allclose(got, want[name], err_msg=name, **TOL[dtype])


@settings(deadline=None, max_examples=60)
@given(case=geometries(), seed=st.integers(0, 1000))
def test_nan_and_infinity(k, case, seed):
    """A NaN wins over all, the last of several; a window of -inf alone has its first element as maximum."""
    shape, *geometry = case
    x, dout = inputs(shape, geometry, "float32", seed)
    rng = np.random.default_rng(seed)
    for share, value in ((0.3, -np.inf), (0.1, np.inf), (0.1, np.nan)):
        x[rng.random(shape) < share] = value
    x[0] = -np.inf
    want = pool(ref, "max", x, dout, *geometry)
    for name, got in pool(k, "max", x, dout, *geometry).items():
        assert_allclose(got, want[name], err_msg=name, **TOL["float32"])


def test_which_of_several_has_the_gradient(k):
    nan = np.nan
    x = np.array([[1, 1, 0, 2, nan, 5], [1, 1, 2, 2, nan, nan]], "float32").reshape(1, 1, 2, 6)
    got = pool(k, "max", x, np.ones((1, 1, 1, 3), "float32"), 2, 2, 2, 0)
    assert_array_equal(got["argmax"].ravel(), [0, 1, 3])
    assert_array_equal(got["dx"][0, 0], [[1, 0, 0, 1, 0, 0], [0, 0, 0, 0, 0, 1]])


@pytest.mark.parametrize("kind", ["max", "average"])
@pytest.mark.parametrize("geometry", [(2, 2, 2, 0), (3, 3, 2, 1)], ids=str)
@pytest.mark.parametrize("size", [(33, 35), (34, 36)], ids=str)
def test_large_images_in_parallel(k, kind, geometry, size):
    """The same bits for any number of threads."""
    x, dout = inputs((20, 6, *size), geometry, "float32")
    want = pool(ref, kind, x.astype("float64"), dout.astype("float64"), *geometry)
    results = []
    for threads in (1, fastnn.get_num_threads()):
        with fastnn.threads(threads):
            results.append(pool(k, kind, x, dout, *geometry))
    for name, serial in results[0].items():
        assert_allclose(serial, want[name], err_msg=name, **TOL["float32"])
        assert_array_equal(serial, results[1][name])


@pytest.mark.parametrize("kind", ["max", "average"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("size", [(190, 230), (30, 1100)], ids=str)
def test_gradients_written_past_the_caches(k, kind, dtype, size):
    """Of more than 32 MB, wherever in a cache line they begin, and nothing beside them; of rows beyond a page, too."""
    shape = (3, 1 + (35 << 20) // (3 * np.dtype(dtype).itemsize * size[0] * size[1]), *size)
    x, dout = inputs(shape, (2, 2, 2, 0), dtype)
    want = pool(ref, kind, x, dout, 2, 2, 2, 0)
    count, guard = x.size, 7.5
    memory = np.full(count + 40, guard, dtype)
    for skipped in (0, 3, 17):
        dx = memory[skipped : skipped + count].reshape(shape)
        if kind == "max":
            k.max_pooling_backward(dout, want["argmax"], 2, 2, 2, 0, dx)
        else:
            k.average_pooling_backward(dout, 2, 2, 2, 0, dx)
        assert_array_equal(dx, want["dx"])
        assert np.all(memory[:skipped] == guard) and np.all(memory[skipped + count :] == guard)
        memory[:] = guard


def test_windows_of_more_than_256_places(k):
    x, dout = inputs((2, 1, 20, 30), (20, 15, 15, 0), "float32")
    x[:, :, 19, 14] = 9
    got = pool(k, "max", x, dout, 20, 15, 15, 0)
    assert got["argmax"].dtype == np.uint16
    assert_array_equal(got["argmax"][:, :, 0, 0], 299)
    assert_array_equal(got["dx"], pool(ref, "max", x, dout, 20, 15, 15, 0)["dx"])
