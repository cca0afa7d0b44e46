import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.testing import assert_allclose, assert_array_equal

import fastnn
from fastnn.kernels import ref

EPS = 1e-6


def inputs(shape, dtype, seed=0, mean=0.0):
    rng = np.random.default_rng(seed)
    x, dout = rng.standard_normal((2, *shape))
    gamma, beta = rng.standard_normal((2, shape[1]))
    return [a.astype(dtype) for a in (x + mean, dout, gamma, beta)]


def run(k, x, dout, gamma, beta):
    """Everything that the kernels write."""
    eps = x.dtype.type(EPS)
    out, dx, inferred = (np.full(x.shape, np.nan, x.dtype) for _ in range(3))
    mean, var, dgamma, dbeta = (np.full(gamma.shape, np.nan, x.dtype) for _ in range(4))
    k.batch_normalization_forward(x, gamma, beta, eps, out, mean, var)
    k.batch_normalization_backward(dout, x, gamma, mean, var, eps, dx, dgamma, dbeta)
    k.batch_normalization_inference(x, gamma, beta, mean + 1, var + 1, eps, inferred)
    return {"out": out, "mean": mean, "var": var, "dx": dx, "dgamma": dgamma, "dbeta": dbeta, "inferred": inferred}


def assert_close(got, want, dtype, scale=1.0):
    """Relative to the size of what is summed, which here is about 1."""
    tolerance = scale * {"float32": 1e-5, "float64": 1e-14}[dtype]
    for name, a in got.items():
        assert a.dtype == dtype
        terms = np.sqrt(got["dx"].size / a.size) if name in ("dgamma", "dbeta") else 1
        assert_allclose(a, want[name], rtol=tolerance, atol=tolerance * terms, err_msg=name)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@settings(deadline=None, max_examples=40)
@given(shape=hnp.array_shapes(min_dims=2, max_dims=3, max_side=70), seed=st.integers(0, 1000))
def test_matches_reference(k, dtype, shape, seed):
    shape = (shape[0] + 9, *shape[1:])  # of few samples the variance may be next to 0, and all errors large
    case = inputs(shape, dtype, seed)
    want = run(ref, *(a.astype("float64") for a in case))
    assert_close(run(k, *case), want, dtype, scale=max(1, 1 / np.sqrt(want["var"].min())))


@pytest.mark.parametrize("shape", [(100, 700), (97, 6, 143)], ids=str)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_large_batches_in_parallel(k, shape, dtype):
    """The same bits for any number of threads."""
    case = inputs(shape, dtype)
    with fastnn.threads(1):
        serial = run(k, *case)
    assert_close(serial, run(ref, *(a.astype("float64") for a in case)), dtype, scale=3)
    for name, a in run(k, *case).items():
        assert_array_equal(a, serial[name], err_msg=name)


@pytest.mark.parametrize("shape", [(1000, 3), (50, 3, 40)], ids=str)
def test_a_mean_far_from_zero(k, shape):
    """Mean of squares less square of the mean would be off by 1000 here; a float32 near 30,000 has steps of 0.002."""
    case = inputs(shape, "float32", mean=30_000.0)
    want = run(ref, *(a.astype("float64") for a in case))
    got = run(k, *case)
    for name in ("mean", "var"):
        assert_allclose(got[name], want[name], rtol=1e-6)
    assert_allclose(got["out"], want["out"], atol=0.01)


@pytest.mark.parametrize("shape", [(40, 3), (4, 3, 10)], ids=str)
def test_a_constant_channel(k, shape):
    x, dout, gamma, beta = inputs(shape, "float32")
    x[:, 1] = 7
    got = run(k, x, dout, gamma, beta)
    assert got["var"][1] == 0
    assert_array_equal(got["out"][:, 1], np.broadcast_to(beta[1], got["out"][:, 1].shape))
    assert np.isfinite(got["dx"]).all()


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("shape", [(40, 3), (4, 3, 10)], ids=str)
def test_nan_and_infinity_fill_their_channel_only(k, shape, value):
    x, dout, gamma, beta = inputs(shape, "float32")
    x[(2, 1, *[3] * (x.ndim - 2))] = value
    got = run(k, x, dout, gamma, beta)
    for name in ("out", "dx"):
        assert np.isnan(got[name][:, 1]).all()
        assert np.isfinite(got[name][:, [0, 2]]).all()
