"""One step of many parameters: the same bits as NumPy, for any number of threads."""

from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

from fastnn import kernels
from fastnn.kernels import cpu, ref
from fastnn.kernels.cpu import optimizer
from tests.tolerances import TOL

# rule: number of arrays of its state, its numbers
RULES = {
    "sgd": (0, [0.1]),
    "momentum": (1, [0.1, 0.9]),
    "nesterov": (1, [0.1, 0.9, 0.81, 0.19]),
    "adagrad": (1, [0.1, 1e-7]),
    "rmsprop": (1, [0.1, 0.99, 0.01, 1e-7]),
    "adam": (2, [0.1, 0.1, 0.001, 1e-7]),
}
LARGE = optimizer.PARALLEL_ABOVE + 1


def arrays(rule, shapes, dtype, seed=0):
    """params, grads, states"""
    rng = np.random.default_rng(seed)
    params, grads = ([rng.standard_normal(shape).astype(dtype) for shape in shapes] for _ in range(2))
    return params, grads, [tuple(rng.random(shape).astype(dtype) for _ in range(RULES[rule][0])) for shape in shapes]


def update(k, rule, data, decay=0.0, keep=1.0, max_norm=0.0, steps=3):
    """All arrays after some steps."""
    params, grads, states = data
    numbers = np.array([decay, keep, *RULES[rule][1]], params[0].dtype)
    plan = k.optimizer_plan(rule, params, grads, states)
    for _ in range(steps):
        k.optimizer_update(plan, numbers, max_norm)
    return [*params, *grads, *(a for state in states for a in state)]


@pytest.mark.parametrize("dtype", TOL)
@pytest.mark.parametrize("rule", RULES)
@settings(deadline=None, max_examples=20)
@given(
    shapes=st.lists(st.lists(st.integers(0, 70), max_size=3).map(tuple), min_size=1, max_size=5),
    decay=st.sampled_from([0.0, 0.1]),
    keep=st.sampled_from([1.0, 0.9]),
    seed=st.integers(0, 100),
)
def test_the_same_bits_as_numpy(k, rule, dtype, shapes, decay, keep, seed):
    got = update(k, rule, arrays(rule, shapes, dtype, seed), decay, keep)
    want = update(ref, rule, arrays(rule, shapes, dtype, seed), decay, keep)
    for a, b in zip(got, want, strict=True):
        assert_array_equal(a, b)


@pytest.mark.parametrize("dtype", TOL)
@pytest.mark.parametrize("rule", ["momentum", "nesterov", "rmsprop", "adam"])
def test_states_decay_to_zero_not_to_subnormal_numbers(k, rule, dtype):
    smallest = 1024 * np.finfo(dtype).tiny
    start = np.array([1.001, -1.001, 1.5, 2.5, np.nan, np.inf], dtype) * smallest
    for room in (k, ref):
        states = [tuple(start.copy() for _ in range(RULES[rule][0]))]
        with np.errstate(all="ignore"):
            update(room, rule, ([np.ones(6, dtype)], [np.zeros(6, dtype)], states), steps=1)
        for state in states[0]:
            assert (np.isnan(state) | (state == 0) | (np.abs(state) >= smallest)).all()
            assert_array_equal(state[:2], 0)
            assert state[3] > 0
            assert np.isnan(state[4]) and not np.isfinite(state[5])


@pytest.mark.parametrize("dtype", TOL)
@pytest.mark.parametrize("rule", ["adagrad", "rmsprop", "adam"])
def test_squares_and_decay_are_not_subnormal(rule, dtype):
    """Of a gradient that is all but 0, and of such a parameter. Infinity and NaN go through. (A GPU need not do so.)"""
    tiny = np.finfo(dtype).tiny
    grads = np.array([0.7, -1e4, np.inf, np.nan], dtype) * np.sqrt(tiny)
    results = []
    for room in (cpu, ref):
        with np.errstate(all="ignore"):
            states = [tuple(np.zeros(4, dtype) for _ in range(RULES[rule][0]))]
            of_grads = update(room, rule, ([np.ones(4, dtype)], [grads.copy()], states), steps=1)
            params = np.array([9.9, -10.1, np.inf, np.nan], dtype) * tiny
            of_decay = update(room, "sgd", ([params], [np.zeros(4, dtype)], [()]), decay=0.1, steps=1)
        results.append([*of_grads, *of_decay])
    for a, b in zip(*results, strict=True):
        assert_array_equal(a, b)
    *_, squares, decayed, _ = results[0]
    assert squares[0] == 0 < squares[1]
    assert_array_equal(decayed[:2] == np.array([9.9, -10.1], dtype) * tiny, [True, False])


@pytest.mark.parametrize("dtype", TOL)
@pytest.mark.parametrize("rule", ["sgd", "adam"])
@pytest.mark.parametrize("max_norm", [0.0, 0.5])
def test_threads_do_not_change_a_bit(k, rule, dtype, max_norm):
    shapes, results = [(LARGE,), (3,), (50, 77)], []
    for n in range(1, kernels.get_num_threads() + 1):
        with kernels.threads(n):
            results.append(update(k, rule, arrays(rule, shapes, dtype), 0.1, 0.9, max_norm))
    want = update(ref, rule, arrays(rule, shapes, dtype), 0.1, 0.9, max_norm)
    for result in results:
        for a, b, c in zip(result, results[0], want, strict=True):
            assert_array_equal(a, b)
            assert_allclose(a, c, **TOL[dtype])


@pytest.mark.parametrize("dtype", TOL)
@pytest.mark.parametrize("size", [3, LARGE])
def test_the_same_bits_where_python_objects_are_not_known(dtype, size):
    def plan(*args):
        return cpu.optimizer_plan(*args)._replace(at_once=lambda *args: False)

    by_address = SimpleNamespace(optimizer_plan=plan, optimizer_update=cpu.optimizer_update)
    results = [update(k, "adam", arrays("adam", [(size,)], dtype), 0.1, 0.9, 0.5) for k in (cpu, by_address)]
    for a, b in zip(*results, strict=True):
        assert_array_equal(a, b)


@pytest.mark.parametrize("dtype", TOL)
@pytest.mark.parametrize("max_norm", [1e-3, 1.0, 1e3, np.inf])
def test_clipping(k, dtype, max_norm):
    got, want = (
        update(room, "sgd", arrays("sgd", [(30, 40), (5,)], dtype), max_norm=max_norm, steps=1) for room in (k, ref)
    )
    for a, b in zip(got, want, strict=True):
        assert_allclose(a, b, **TOL[dtype])
    norm = np.linalg.norm(np.concatenate([a.ravel() for a in got[2:4]]).astype("float64"))
    assert norm <= max_norm * (1 + 1e-6)


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("max_norm", [0.0, 0.5])
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_nan_and_infinity_as_in_numpy(k, rule, max_norm, bad):
    results = []
    for room in (k, ref):
        params, grads, states = arrays(rule, [(50,)], "float64")
        grads[0][:2] = [bad, -bad]
        params[0][2:4] = [np.inf, np.nan]
        with np.errstate(all="ignore"):
            results.append(update(room, rule, (params, grads, states), max_norm=max_norm))
    assert np.isfinite(results[0][0][4:]).all()
    assert not np.isfinite(results[0][0][:4]).any()
    for a, b in zip(*results, strict=True):
        assert_array_equal(a, b)
