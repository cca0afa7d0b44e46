"""The machine's limits: the kernels do the work that they are timed for."""

import numpy as np
import pytest

import fastnn
from fastnn.kernels import ref


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("repeats", [1, 3, 100])
def test_multiply_adds(k, dtype, repeats):
    x = np.array([0.5, -3], dtype)
    got, want = np.empty_like(x), np.empty_like(x)
    done = k.multiply_adds(x, repeats, got)
    assert done % ref.multiply_adds(x, repeats, want) == 0  # the same in each lane of a vector
    np.testing.assert_allclose(got, want, rtol=1e-6)


def test_copy_to_and_fro(k, rng):
    x = rng.standard_normal((2, 100))
    before, out = x.copy(), np.zeros_like(x)
    k.copy_to_and_fro(x, 3, out)
    np.testing.assert_array_equal(out, before)
    np.testing.assert_array_equal(x, before)


def test_limits_are_chosen_by_what_fits_a_cache():
    machine = fastnn.Roofline(threads=2, flops={"float32": 100e9}, copy=10e9, copy_cached=80e9)
    assert machine.seconds(0, 8e4, "float32") == pytest.approx(1e-6)
    assert machine.seconds(0, 1e9, "float32") == pytest.approx(0.1)
    assert machine.seconds(1e9, 8e4, "float32") == pytest.approx(0.01)
