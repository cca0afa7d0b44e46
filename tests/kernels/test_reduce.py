"""Sums and maxima of rows: every length round the borders of vectors, next to what must not be read."""

import math

import numba
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastnn.kernels.cpu import _reduce
from fastnn.kernels.cpu._dtype import one_of
from fastnn.kernels.cpu._jit import entry
from fastnn.kernels.cpu._memory import address


def of_row(reduction):
    @numba.njit
    def function(a, b, c):
        return reduction(address(a), a.size, one_of(a))

    return function


def of_rows(reduction):
    @numba.njit
    def function(a, b, c):
        return reduction(address(a), address(b), a.size, one_of(a))

    return function


@entry
def _sums_about(a, b, c):
    return _reduce.sums_about(address(a), a.size, 1, 0, c)


@entry
def _sums_with(a, b, c):
    return _reduce.sums_with(address(a), address(b), a.size, 1, 0, c)


@entry
def _cross_entropy_sum(a, b, c):
    return _reduce.cross_entropy_sum(address(a), address(b), a.size, c, c + c)


_row_max, _row_sum, _sum_of_squares = map(of_row, (_reduce.row_max, _reduce.row_sum, _reduce.sum_of_squares))

# Each with the terms that it sums, and whether in float64.
SUMS = {
    "row_sum": (_row_sum, lambda a, b, c: [a], False),
    "row_dot": (of_rows(_reduce.row_dot), lambda a, b, c: [a * b], False),
    "wide_sum": (of_row(_reduce.wide_sum), lambda a, b, c: [a], True),
    "sum_of_squares": (_sum_of_squares, lambda a, b, c: [a * a], True),
    "squared_distance": (of_rows(_reduce.squared_distance), lambda a, b, c: [(a - b) ** 2], False),
    "sums_about": (_sums_about, lambda a, b, c: [a - c, (a - c) ** 2], False),
    "sums_with": (_sums_with, lambda a, b, c: [a, a * (b - c)], False),
    "cross_entropy_sum": (_cross_entropy_sum, lambda a, b, c: [a * (3 * c - b)], False),
}
SIZES = [*range(1, 70), 127, 128, 129, 1000]


def rows(n, dtype, seed=0):
    """Two rows that begin anywhere and lie between NaNs, and a number."""
    rng = np.random.default_rng(seed)
    memory = np.full(2 * n + 100, np.nan, dtype)
    a, b = memory[seed % 7 + 3 :][:n], memory[n + seed % 5 + 40 :][:n]
    a[:], b[:] = rng.standard_normal((2, n))
    return a, b, a.dtype.type(rng.standard_normal())


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", SUMS)
def test_sums(name, dtype):
    function, terms, wide = SUMS[name]
    for n in SIZES:
        a, b, c = rows(n, dtype, n)
        got, want = np.atleast_1d(function(a, b, c)), terms(*(np.float64(v) for v in (a, b, c)))
        epsilon = np.finfo("float64" if wide else dtype).eps
        for value, term in zip(got, want, strict=True):
            assert abs(value - math.fsum(term)) <= 4 * epsilon * np.abs(term).sum() + 2 * epsilon * n, n


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_maximum(dtype):
    for n in SIZES:
        a, b, c = rows(n, dtype, n)
        assert _row_max(a, b, c) == a.max()
        for special in (np.nan, np.inf, -np.inf):
            for at in {0, n // 2, n - 1}:
                x = a.copy()
                x[at] = special
                assert _row_max(x, b, c) == np.fmax.reduce(x, initial=-np.inf)


@settings(deadline=None, max_examples=50)
@given(st.integers(1, 300), st.integers(0, 299), st.sampled_from([np.nan, np.inf, -np.inf]))
def test_what_is_not_finite_is_seen(n, at, special):
    a, b, c = rows(n, "float32")
    a[at % n] = special
    assert not math.isfinite(_row_sum(a, b, c))
    assert not math.isfinite(_sum_of_squares(a, b, c))
    assert not np.isfinite(_sums_about(a, b, c)).any()


def test_classes_of_no_probability_cost_nothing():
    a, b, c = rows(40, "float32")
    a[::3], b[::3] = 0, -np.inf
    assert math.isfinite(_cross_entropy_sum(a, b, c))
    a[3] = np.nan
    assert math.isnan(_cross_entropy_sum(a, b, c))


@entry
def _of_planes(dout, x, channel, center):
    N, C, P = x.shape
    at = channel * P * x.itemsize
    total = _reduce.plane_sum(address(x) + at, P, N, C * P, center)
    about = _reduce.sums_about(address(x) + at, P, N, C * P, center)
    return total, *about, *_reduce.sums_with(address(dout) + at, address(x) + at, P, N, C * P, center)


@pytest.mark.parametrize("P", [1, 5, 16, 64, 67])
def test_planes(P):
    dout, x = np.random.default_rng(P).standard_normal((2, 9, 3, P))
    for channel in range(3):
        d, v = dout[:, channel], x[:, channel]
        want = v.sum(), (v - 0.5).sum(), ((v - 0.5) ** 2).sum(), d.sum(), (d * (v - 0.5)).sum()
        np.testing.assert_allclose(_of_planes(dout, x, channel, 0.5), want, rtol=1e-12, atol=1e-12 * P)
