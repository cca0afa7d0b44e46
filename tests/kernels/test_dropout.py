import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_array_equal

import fastnn
from fastnn.kernels import ref

SEEDS = st.integers(0, 2**63 - 1)


def mask(k, size, seed, ratio=0.5, dtype="float32"):
    out = np.empty(size, dtype)
    k.dropout_forward(np.ones(size, dtype), seed, ratio, out)
    return out


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@settings(deadline=None, max_examples=40)
@given(size=st.integers(1, 300), seed=SEEDS, ratio=st.floats(0, 1, exclude_max=True, width=32))
def test_matches_reference(k, dtype, size, seed, ratio):
    x = np.random.default_rng(0).standard_normal((size, 2)).astype(dtype)
    x[0] = np.nan, np.inf
    got, want = np.empty_like(x), np.empty_like(x)
    with np.errstate(invalid="ignore"):
        ref.dropout_forward(x, seed, ratio, want)
    for kernel in (k.dropout_forward, k.dropout_backward):
        kernel(x, seed, ratio, got)
        assert_array_equal(got, want)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_large_arrays_in_parallel(k, dtype):
    with fastnn.threads(1):
        serial = mask(k, 50_001, 5, dtype=dtype)
    assert_array_equal(mask(k, 50_001, 5, dtype=dtype), serial)
    assert_array_equal(mask(ref, 50_001, 5, dtype=dtype), serial)


@pytest.mark.parametrize("ratio", [0.01, 0.3, 0.5, 0.99])
def test_how_many_are_dropped(k, ratio):
    n = 200_000
    dropped = n - mask(k, n, 1, ratio).sum()
    assert abs(dropped - ratio * n) < 4 * np.sqrt(n * ratio * (1 - ratio))


def test_ratio_0_keeps_all(k):
    assert mask(k, 1000, 3, 0.0).all()


def correlation(a, b):
    return abs(np.mean((2 * a - 1) * (2 * b - 1))) * np.sqrt(a.size)  # of independent masks: rarely above 4


def test_elements_are_independent_of_each_other_and_of_other_seeds(k):
    n = 100_000
    kept = mask(k, n, 7)
    for lag in (1, 2, 3, 8, 16, 64, 784, 1000, 4096):
        assert correlation(kept[lag:], kept[:-lag]) < 4, lag
    # Neighbours, and seeds that differ in one half only; also one against another shifted along.
    for seed in (8, 6, 7 + 2**31, 7 + 2**32, 7 + 2**62, 0):
        for lag in (0, 1, 2):
            assert correlation(kept[lag:], mask(k, n, seed)[: n - lag]) < 4, (seed, lag)
    counts = np.bincount(kept.reshape(-1, 10).astype(int) @ 2 ** np.arange(10), minlength=1024)
    expected = n / 10 / 1024
    assert abs(np.sum((counts - expected) ** 2 / expected) - 1023) < 4 * np.sqrt(2 * 1023)  # all patterns of ten bits
