"""Permutations of NumPy's RandomState, to the bit."""

import importlib

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from fastnn.kernels import cpu, ref


@pytest.mark.parametrize("bits", [np.random.MT19937, np.random.PCG64])
@pytest.mark.parametrize("n", [1, 2, 3, 64, 65, 300, 5000])
def test_those_of_numpy(bits, n):
    results, after = [], []
    for room in (cpu, ref):
        generator = bits(3)
        orders = np.empty((5, n), np.intp)
        orders[0] = np.arange(n)[::-1]
        room.shuffles(generator, orders)
        results.append(orders)
        after.append(generator.random_raw())
    assert_array_equal(*results)
    assert after[0] == after[1]


def test_a_twister_is_read_where_it_lies_or_asked(monkeypatch):
    module = importlib.import_module("fastnn.kernels.cpu.shuffles")
    orders = np.zeros((2, 9, 1000), np.intp)
    orders[:, 0] = np.arange(1000)
    assert module._can_read_twister()  # of this NumPy
    for each in orders:
        cpu.shuffles(np.random.MT19937(0), each)
        monkeypatch.setattr(module, "_can_read_twister", lambda: False)
    assert_array_equal(*orders)


def test_they_compound_as_permutations_do():
    orders = np.empty((20, 30), np.intp)
    orders[0] = np.arange(30)
    cpu.shuffles(np.random.MT19937(np.random.SeedSequence(1)), orders)
    random, order = np.random.RandomState(np.random.MT19937(np.random.SeedSequence(1))), np.arange(30)
    for got in orders[1:]:
        order = order[random.permutation(30)]
        assert_array_equal(got, order)
