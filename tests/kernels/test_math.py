"""exp and log against float64 (and longdouble), over all of their range."""

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from fastnn.kernels.cpu import _math
from fastnn.kernels.cpu._jit import jit


@jit
def _exp(x, out):
    for i in range(x.size):
        out[i] = _math.exp(x[i])


@jit
def _log(x, out):
    for i in range(x.size):
        out[i] = _math.log(x[i])


FUNCTIONS = {"exp": (_exp, np.exp), "log": (_log, np.log)}


def values(name, dtype):
    """Bit patterns spread over the whole range, of which those with a finite result."""
    rng = np.random.default_rng(0)
    if dtype == "float32":
        x = np.arange(0, 2**32, 4099, dtype=np.uint32).view(dtype)
    else:
        x = rng.integers(0, 2**63, 300_000).view(dtype)
    near = (
        (rng.standard_normal(300_000) * 300).astype(dtype)
        if name == "exp"
        else (1 + rng.normal(0, 0.1, 300_000)).astype(dtype)
    )
    x = np.concatenate([x[np.isfinite(x)], near])
    return abs(x) if name == "log" else x


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", FUNCTIONS)
def test_error_in_units_of_the_last_place(name, dtype):
    own, exact = FUNCTIONS[name]
    x = values(name, dtype)
    out = np.empty_like(x)
    own(x, out)
    with np.errstate(all="ignore"):
        want = exact(x.astype(np.longdouble))
        rounded = want.astype(dtype)
    finite = np.isfinite(rounded)
    assert_array_equal(out[~finite], rounded[~finite])
    unit = np.spacing(np.maximum(abs(rounded[finite]), np.finfo(dtype).smallest_subnormal))
    assert np.max(abs(out[finite].astype(np.longdouble) - want[finite]) / unit) < 1.1


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_special_values(dtype):
    x = np.array([0.0, -0.0, np.inf, -np.inf, np.nan, 1e4, -1e4] * 5, dtype)
    out = np.empty_like(x)
    with np.errstate(all="ignore"):
        for own, exact in FUNCTIONS.values():
            own(x, out)
            assert_allclose(out, exact(x), rtol=np.finfo(dtype).eps)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", FUNCTIONS)
def test_the_same_bits_wherever_an_element_stands(name, dtype):
    """In a vector or among the last elements of a loop."""
    own = FUNCTIONS[name][0]
    x = np.random.default_rng(0).uniform(0.1, 20, 1003).astype(dtype)
    whole, single = np.empty_like(x), np.empty_like(x)
    own(x, whole)
    for i in range(len(x)):
        own(x[i : i + 1], single[i : i + 1])
    assert_array_equal(whole, single)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_row_max(dtype):
    rng = np.random.default_rng(0)
    for n in (1, 2, 10, 100, 1001):
        x = rng.standard_normal(n).astype(dtype)
        assert _math.row_max(x) == x.max()
        x[n // 2] = np.nan
        assert np.isnan(_math.row_max(x))
