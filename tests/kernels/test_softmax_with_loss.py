import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

import fastnn
from fastnn.kernels import cpu, ref
from tests.tolerances import TOL

SHAPES = [(1, 1), (3, 7), (100, 10), (129, 16), (40, 63), (33, 64), (5, 1025), (2000, 10)]


def run(k, x, t, weight=None, smoothing=0.0, ignore=None):
    dx = np.full_like(x, np.nan)
    return k.softmax_with_loss(x, t, weight, smoothing, ignore, dx), dx


def check(k, x, t, weight=None, smoothing=0.0, ignore=None, tolerance=1):
    def wide(a):
        return a.astype("float64") if a is not None and a.dtype.kind == "f" else a

    before = x.copy()
    loss, dx = run(k, x, t, weight, smoothing, ignore)
    want_loss, want = run(ref, wide(x), wide(t), wide(weight), smoothing, ignore)
    assert isinstance(loss, float)
    assert dx.dtype == x.dtype
    tol = {name: tolerance * value for name, value in TOL[x.dtype.name].items()}
    assert_allclose(loss, want_loss, **tol)
    assert_allclose(dx, want, **tol)
    assert_array_equal(x, before)


def soft_labels(shape, dtype, rng):
    t = rng.random(shape)
    t[:, ::3] = 0
    t[0] = 0  # a row that counts for nothing
    return t.astype(dtype)


@pytest.mark.parametrize("dtype", TOL)
@pytest.mark.parametrize("labels", ["indices", "rows"])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_matches_reference(k, shape, labels, dtype, rng):
    x = (40 * rng.standard_normal(shape)).astype(dtype)  # exp overflows without the shift
    t = rng.integers(shape[1], size=shape[0]) if labels == "indices" else soft_labels(shape, dtype, rng)
    check(k, x, t, tolerance=1 if labels == "indices" else 20)  # soft: sums of up to 1025 losses


@pytest.mark.parametrize("dtype", TOL)
@pytest.mark.parametrize("labels", ["indices", "rows"])
@pytest.mark.parametrize("smoothing", [0.0, 0.2])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("shape", [(3, 7), (200, 10), (1300, 10), (33, 64)], ids=str)
def test_options_match_reference(k, shape, weighted, smoothing, labels, dtype, rng):
    x = rng.standard_normal(shape).astype(dtype)
    weight = rng.random(shape[1]).astype(dtype) if weighted else None
    if labels == "rows":
        check(k, x, soft_labels(shape, dtype, rng), weight, smoothing, tolerance=20)
        return
    t = rng.integers(shape[1], size=shape[0])
    check(k, x, t, weight, smoothing, ignore=int(t[0]), tolerance=5)
    t[1:3] = -100
    check(k, x, t, weight, smoothing, ignore=-100, tolerance=5)


@pytest.mark.parametrize("labels", ["indices", "rows"])
def test_a_million_classes(k, labels, rng):
    x = (3 * rng.standard_normal((2, 1_000_000))).astype("float32")
    t = np.array([999_999, 0]) if labels == "indices" else soft_labels(x.shape, "float32", rng)
    check(k, x, t, tolerance=1 if labels == "indices" else 20)


@settings(deadline=None, max_examples=100)
@given(
    n=st.integers(1, 40), c=st.integers(1, 70), seed=st.integers(0, 2**32 - 1), spread=st.sampled_from([0.01, 1, 1e3])
)
@pytest.mark.parametrize("dtype", TOL)
def test_any_shape(k, dtype, n, c, seed, spread):
    rng = np.random.default_rng(seed)
    x = (spread * rng.standard_normal((n, c))).astype(dtype)
    check(k, x, rng.integers(c, size=n))


@pytest.mark.parametrize("dtype", TOL)
def test_finite_for_extreme_scores(k, dtype):
    x = np.array([[1e4, -1e4, 0], [-1e4, 1e4, 0]], dtype)
    loss, dx = run(k, x, np.array([0, 0]))
    assert loss == 1e4
    assert_array_equal(dx, [[0, 0, 0], [-0.5, 0.5, 0]])


@pytest.mark.parametrize("dtype", TOL)
def test_small_losses_keep_their_digits(k, dtype):
    x = np.array([[100, 100 - 12.5]], dtype)
    assert_allclose(run(k, x, np.array([0]))[0], np.log1p(np.exp(-12.5)), atol=2 * np.finfo(dtype).eps)


@pytest.mark.parametrize("dtype", TOL)
def test_an_impossible_class_of_label_zero_costs_nothing(k, dtype):
    x = np.array([[0, 0, -np.inf]], dtype)
    assert_allclose(run(k, x, np.array([[0.5, 0.5, 0]], dtype))[0], np.log(2), rtol=1e-6)
    assert_allclose(run(k, x, np.array([1]))[0], np.log(2), rtol=1e-6)
    assert run(k, x, np.array([2]))[0] == np.inf


@pytest.mark.parametrize("classes", [20, 100])
@pytest.mark.parametrize("dtype", TOL)
def test_nan_and_infinity_come_out(k, dtype, classes):
    x = np.zeros((3, classes), dtype)
    x[0, 7], x[1, 7] = np.nan, np.inf
    loss, dx = run(k, x, np.array([1, 1, 1]))
    assert np.isnan(loss)
    assert np.isnan(dx[:2]).all()
    assert np.isfinite(dx[2]).all()


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("bad", [-1, 3, 2**62, -(2**62), -(2**63)])
def test_unknown_classes_cost_nan(k, smoothing, bad, rng):
    x = rng.standard_normal((4, 3))
    for kernels_of, ignore in itertools.product((k, ref), (None, 2)):
        assert np.isnan(run(kernels_of, x, np.array([0, bad, 2, 1]), None, smoothing, ignore)[0])


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_where_all_is_ignored_there_is_no_mean_and_no_gradient(k, smoothing, rng):
    for kernels_of in (k, ref):
        loss, dx = run(kernels_of, rng.standard_normal((4, 3)), np.full(4, -1), None, smoothing, -1)
        assert np.isnan(loss)
        assert_array_equal(dx, np.zeros((4, 3)))


@pytest.mark.parametrize("shape", [(5001, 10), (301, 100)], ids=str)
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_same_for_any_number_of_threads(k, shape, smoothing, rng):
    x, t = rng.standard_normal(shape).astype("float32"), rng.integers(shape[1], size=shape[0])
    with fastnn.threads(1):
        loss, dx = run(k, x, t, None, smoothing, 3)
    again, dx_again = run(k, x, t, None, smoothing, 3)
    assert loss == again
    assert_array_equal(dx, dx_again)


@pytest.mark.parametrize(("shape", "dtype"), [((2050, 4099), "float32"), ((1030, 4099), "float64")])
def test_larger_than_caches(k, shape, dtype, rng):
    """Long rows, none of which begins where a vector does, of more memory than a cache holds."""
    x, t = rng.standard_normal(shape).astype(dtype), rng.integers(shape[1], size=shape[0])
    loss, dx = run(k, x, t)
    want_loss, want = run(ref, x, t)
    assert_allclose(loss, want_loss, rtol=1e-5)
    assert_allclose(dx, want, rtol=2e-5 if dtype == "float32" else 1e-12, atol=1e-12)
    with fastnn.threads(1):
        again, dx_again = run(k, x, t)
    assert loss == again
    assert_array_equal(dx, dx_again)
    x[5, 17], x[70, -1] = np.nan, np.inf
    _, with_nan = run(k, x, t)
    bad = np.isnan(with_nan).all(axis=1)
    assert_array_equal(bad.nonzero()[0], [5, 70])
    assert_array_equal(with_nan[~bad], dx[~bad])
    x[[5, 70]] = 0
    _, dx = run(k, x, t)
    y = np.empty_like(x)
    k.softmax_forward(x, y)
    dx *= shape[0]
    dx[np.arange(len(t)), t] += 1
    assert_allclose(y, dx, rtol=1e-4 if dtype == "float32" else 1e-10, atol=1e-6 if dtype == "float32" else 1e-12)


class TestAtOnce:
    """The way past Numba's dispatcher: it does what is small and as it should be, and leaves all else alone."""

    @pytest.fixture
    def at_once(self):
        for dtype in TOL:  # compile
            run(cpu, np.zeros((2, 3), dtype), np.array([0, 1]))
        return cpu.softmax_with_loss.at_once

    @pytest.mark.parametrize("dtype", TOL)
    @pytest.mark.parametrize("shape", [(1, 1), (100, 10), (500, 10), (7, 70)], ids=str)
    def test_does_what_it_can(self, at_once, shape, dtype, rng):
        x, t = rng.standard_normal(shape).astype(dtype), rng.integers(shape[1], size=shape[0])
        dx, want = np.empty_like(x), np.empty_like(x)
        loss = at_once(x, t, dx)
        assert type(loss) is float
        assert_allclose(loss, ref.softmax_with_loss(x, t, None, 0.0, None, want), **TOL[dtype])
        assert_allclose(dx, want, **TOL[dtype])

    @pytest.mark.parametrize(
        ("x", "t", "dx"),
        [
            (np.zeros((2, 3)), np.zeros(3, "intp"), np.zeros((2, 3))),
            (np.zeros((2, 3)), np.zeros((2, 1), "intp"), np.zeros((2, 3))),
            (np.zeros((2, 3)), np.zeros(2, "int32"), np.zeros((2, 3))),
            (np.zeros((2, 3)), np.zeros((2, 3)), np.zeros((2, 3))),
            (np.zeros((2, 3)), np.zeros(4, "intp")[::2], np.zeros((2, 3))),
            (np.zeros((2, 3)), np.array([0, 3]), np.zeros((2, 3))),
            (np.zeros((2, 3)), np.array([0, -1]), np.zeros((2, 3))),
            (np.full((2, 3), np.nan), np.array([0, 1]), np.zeros((2, 3))),
            (np.zeros((2, 3)), np.zeros(2, "intp"), np.zeros((3, 2))),
            (np.zeros((2, 3)), np.zeros(2, "intp"), np.zeros((2, 3), "float32")),
            (np.zeros((2, 3)), np.zeros(2, "intp"), np.broadcast_to(0.0, (2, 3))),
            (np.zeros((3, 2)).T, np.zeros(2, "intp"), np.zeros((2, 3))),
            (np.zeros((2, 3), "float16"), np.zeros(2, "intp"), np.zeros((2, 3), "float16")),
            (np.zeros((0, 3)), np.zeros(0, "intp"), np.zeros((0, 3))),
            (np.zeros(3), np.zeros(3, "intp"), np.zeros(3)),
            (np.zeros((4001, 3)), np.zeros(4001, "intp"), np.zeros((4001, 3))),
            ([[0.0]], [0], None),
        ],
    )
    def test_leaves_all_else_alone(self, at_once, x, t, dx):
        assert at_once(x, t, dx) is False

    def test_wrong_calls(self, at_once):
        assert at_once() is False
        assert at_once(np.zeros((2, 3)), np.zeros(2, "intp")) is False
