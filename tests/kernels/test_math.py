"""The elementary functions against more digits; the full sweep is bench/accuracy.py."""

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from bench.accuracy import FUNCTIONS, worst


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", FUNCTIONS)
def test_error_in_units_of_the_last_place(name, dtype):
    error, where = worst(name, dtype, stride=9973, count=400_000)
    assert error <= FUNCTIONS[name][2], where


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", FUNCTIONS)
def test_special_values(name, dtype):
    tiny = np.finfo(dtype).smallest_subnormal
    x = np.array([0.0, -0.0, tiny, -tiny, np.inf, -np.inf, np.nan, 1e4, -1e4] * 5, dtype)
    if name == "expm1_negative":
        x = -abs(x)
    own, exact, _ = FUNCTIONS[name]
    got = np.empty_like(x)
    own(x, got)
    with np.errstate(all="ignore"):
        want = exact(x).astype(dtype)
    assert_allclose(got, want, rtol=2 * np.finfo(dtype).eps, atol=0)
    if name in ("tanh", "erf"):
        assert_array_equal(np.signbit(got), np.signbit(x))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", FUNCTIONS)
def test_the_same_bits_wherever_an_element_stands(name, dtype):
    """In a vector or among the last elements of a loop."""
    own = FUNCTIONS[name][0]
    x = np.random.default_rng(0).uniform(0.1, 20, 1003).astype(dtype)
    if name == "expm1_negative":
        x = -x
    whole, single = np.empty_like(x), np.empty_like(x)
    own(x, whole)
    for i in range(len(x)):
        own(x[i : i + 1], single[i : i + 1])
    assert_array_equal(whole, single)
