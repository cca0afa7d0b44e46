import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose

from fastnn.kernels import cpu, ref
from tests.tolerances import TOL

SHAPES = [(1, 1), (3, 7), (5, 1025), (2000, 10), (100, 255), (100, 256), (64, 1000)]


def run(k, x, t, scale=0.5):
    y, nll, dx = np.full_like(x, np.nan), np.full_like(x[:, 0], np.nan), np.full_like(x, np.nan)
    k.softmax_with_loss_forward(x, t, y, nll)
    k.softmax_with_loss_backward(y, t, x.dtype.type(scale), dx)
    return {"y": y, "nll": nll, "dx": dx}


def soft_labels(shape, dtype, rng):
    t = rng.random(shape)
    t[:, ::3] = 0
    t[0] = 0  # a row that counts for nothing
    return t.astype(dtype)


def check(k, x, t, tolerance):
    dtype = x.dtype
    t64 = t if t.dtype == np.intp else t.astype("float64")
    want = run(ref, x.astype("float64"), t64)
    for name, got in run(k, x, t).items():
        assert got.dtype == dtype, name
        assert_allclose(got, want[name], **tolerance, err_msg=name)


@pytest.mark.parametrize("dtype", TOL)
@pytest.mark.parametrize("labels", ["indices", "rows"])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_matches_reference(k, shape, labels, dtype, rng):
    x = (40 * rng.standard_normal(shape)).astype(dtype)  # exp overflows without the shift
    t = rng.integers(shape[1], size=shape[0]) if labels == "indices" else soft_labels(shape, dtype, rng)
    tolerance = TOL[dtype] if labels == "indices" else {name: 20 * value for name, value in TOL[dtype].items()}
    check(k, x, t, tolerance)  # soft: sums of up to 1025 losses


@pytest.mark.parametrize("dtype", TOL)
@settings(deadline=None, max_examples=50)
@given(
    n=st.integers(1, 40), c=st.integers(1, 70), seed=st.integers(0, 2**32 - 1), spread=st.sampled_from([0.01, 1, 1e3])
)
def test_any_shape(dtype, n, c, seed, spread):
    rng = np.random.default_rng(seed)
    x = (spread * rng.standard_normal((n, c))).astype(dtype)
    check(cpu, x, rng.integers(c, size=n), TOL[dtype])


@pytest.mark.parametrize("dtype", TOL)
def test_one_hot_rows_equal_indices(k, dtype, rng):
    x = rng.standard_normal((30, 11)).astype(dtype)
    t = rng.integers(11, size=30)
    indices, rows = run(k, x, t), run(k, x, np.eye(11, dtype=dtype)[t])
    for name in indices:
        assert_allclose(indices[name], rows[name], **TOL[dtype], err_msg=name)


@pytest.mark.parametrize("dtype", TOL)
def test_finite_for_extreme_scores(k, dtype):
    x = np.array([[1e4, -1e4, 0], [-1e4, 1e4, 0]], dtype)
    got = run(k, x, np.array([0, 0]))
    assert_allclose(got["nll"], [0, 2e4])
    assert_allclose(got["dx"], [[0, 0, 0], [-0.5, 0.5, 0]])


@pytest.mark.parametrize("dtype", TOL)
def test_an_impossible_class_of_label_zero_costs_nothing(k, dtype):
    x = np.array([[0, 0, -np.inf]], dtype)
    got = run(k, x, np.array([[0.5, 0.5, 0]], dtype))
    assert_allclose(got["nll"], [np.log(2)], rtol=1e-6)


@pytest.mark.parametrize("dtype", TOL)
def test_nan_and_infinity_come_out(k, dtype):
    x = np.zeros((3, 20), dtype)
    x[0, 7], x[1, 7] = np.nan, np.inf
    got = run(k, x, np.array([1, 1, 1]))
    for values in got.values():
        assert np.isnan(values[:2]).all()
        assert np.isfinite(values[2]).all()


@pytest.mark.parametrize("k", [cpu, ref], ids=["cpu", "ref"])
@pytest.mark.parametrize("bad", [-1, 3, 2**62, -(2**62)])
def test_unknown_classes_cost_nan(k, bad, rng):
    x = rng.standard_normal((4, 3))
    y, nll = np.empty_like(x), np.empty(4)
    assert np.isnan(k.softmax_with_loss_forward(x, np.array([0, bad, 2, 1]), y, nll))
    assert_allclose(np.isnan(nll), [False, True, False, False])


@pytest.mark.parametrize("k", [cpu, ref], ids=["cpu", "ref"])
def test_forward_returns_the_mean(k, rng):
    x, t = rng.standard_normal((500, 100)).astype("float32"), rng.integers(100, size=500)
    nll = np.empty(500, "float32")
    assert_allclose(k.softmax_with_loss_forward(x, t, np.empty_like(x), nll), nll.mean(dtype="float64"), rtol=1e-14)
