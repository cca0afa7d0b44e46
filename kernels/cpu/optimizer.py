"""Optimizers: one step of many parameters in one call. Formulas, and what numbers are: kernels/ref/optimizer.py.

Parameters, gradients and states (v, h, or m and v) are contiguous, numbers too, all of one dtype, float32 or float64.
Rules give just the bits of NumPy, however work is shared out. Each is compiled once and called by its address, here and
in the compiled step, for some thousand elements at a time: see _update.py.
"""

import functools
import math
from typing import NamedTuple

import numpy as np
from numba import prange, types

from ._jit import c_function, entry, jit, parallel_twin, run
from ._reduce import sum_of_squares
from ._tile import call, itemsize, least_state_of, smallest_root_of, zero_of
from ._update import PIECE, clipping_rate, compiled_update

# Columns of the table, one row a parameter: addresses (0 where there is no such state) and the number of elements.
_PARAM, _GRAD, _FIRST, _SECOND, _SIZE = range(5)

# Elements of all parameters from which waking the threads pays (measured: bench/RESULTS.md).
PARALLEL_ABOVE = 30_000
# How work is shared out must not depend on the threads: norms are sums over shares.
_LEAST_SHARE, _MOST_SHARES = 4096, 64
_ALIGNMENT = 16


@jit
def _state(x):
    """x, or 0 where it is near the subnormal numbers: so is what it loses in a step, which is multiplied, too."""
    return zero_of(x) if abs(x) < least_state_of(x) else x


@jit
def _root(x):
    """x, or 0 where its square would be subnormal: asked before, since squaring is what would take 150 cycles."""
    return zero_of(x) if abs(x) < smallest_root_of(x) else x


def _sgd(count, param, grad, _first, _second, numbers):
    lr = numbers[0]
    for i in range(count):
        param[i] -= lr * grad[i]


def _momentum(count, param, grad, v, _second, numbers):
    lr, momentum = numbers[0], numbers[1]
    for i in range(count):
        v[i] = _state(momentum * v[i] - lr * grad[i])
        param[i] += v[i]


def _nesterov(count, param, grad, v, _second, numbers):
    lr, momentum, momentum_squared, lr_of_grad = numbers[0], numbers[1], numbers[2], numbers[3]
    for i in range(count):
        v[i] = _state(momentum * v[i] - lr * grad[i])
        param[i] = param[i] + momentum_squared * v[i] - lr_of_grad * grad[i]


def _adagrad(count, param, grad, h, _second, numbers):
    lr, epsilon = numbers[0], numbers[1]
    for i in range(count):
        g = _root(grad[i])
        h[i] += g * g
        param[i] -= lr * grad[i] / (math.sqrt(h[i]) + epsilon)


def _rmsprop(count, param, grad, h, _second, numbers):
    lr, decay_rate, new, epsilon = numbers[0], numbers[1], numbers[2], numbers[3]
    for i in range(count):
        g = _root(grad[i])
        h[i] = _state(decay_rate * h[i] + new * g * g)
        param[i] -= lr * grad[i] / (math.sqrt(h[i]) + epsilon)


def _adam(count, param, grad, m, v, numbers):
    lr, new_m, new_v, epsilon = numbers[0], numbers[1], numbers[2], numbers[3]
    for i in range(count):
        g = _root(grad[i])
        m[i] = _state(m[i] + new_m * (grad[i] - m[i]))
        v[i] = _state(v[i] + new_v * (g * g - v[i]))
        param[i] -= lr * m[i] / (math.sqrt(v[i]) + epsilon)


_RULES = {f.__name__[1:]: f for f in (_sgd, _momentum, _nesterov, _adagrad, _rmsprop, _adam)}


@functools.cache
def compiled_rule(name, dtype):
    """A rule compiled for a dtype; its ``address`` is what kernels call. (Cached: it must outlive its callers.)"""
    pointer = types.CPointer({"f": types.float32, "d": types.float64}[np.dtype(dtype).char])
    return c_function(types.void(types.intp, *[pointer] * 5), _RULES[name])


class OptimizerPlan(NamedTuple):
    """What an optimizer works on, as the compiled function sees it."""

    update: int  # address of the function that applies a rule, and of the rule
    rule: int
    table: np.ndarray
    squares: np.ndarray  # of the gradients of each share
    scratch: np.ndarray  # for each share; pages that nobody touches cost nothing
    size: int  # elements of all parameters


def optimizer_plan(rule, params, grads, states):
    """Describe to `optimizer_update` what it works on.

    rule: "sgd", "momentum", "nesterov", "adagrad", "rmsprop" or "adam". params, grads: arrays of equal shapes, none of
    which share memory. states: for each parameter the arrays of its state. All of them must outlive the plan.
    """
    table = np.array(
        [
            (_at(param), _at(grad), *map(_at, state), *[0] * (2 - len(state)), param.size)
            for param, grad, state in zip(params, grads, states, strict=True)
        ],
        np.int64,
    ).reshape(len(params), 5)
    dtype, size = params[0].dtype, sum(param.size for param in params)
    shares = min(max(size // _LEAST_SHARE, 1), _MOST_SHARES)
    functions = compiled_update(dtype.char).address, compiled_rule(rule, dtype.char).address
    return OptimizerPlan(*functions, table, np.empty(shares), np.empty((shares, 2 * PIECE), dtype), size)


def _at(array):
    return array.__array_interface__["data"][0]  # half the time of array.ctypes.data


@jit
def _begin(size, share, shares):
    return size if share == shares else size // _ALIGNMENT * share // shares * _ALIGNMENT


@jit
def _sum_of_squares(table, share, shares, one):
    square = 0.0
    for i in range(table.shape[0]):
        begin, end = _begin(table[i, _SIZE], share, shares), _begin(table[i, _SIZE], share + 1, shares)
        square += sum_of_squares(table[i, _GRAD] + begin * itemsize(one), end - begin, one)
    return square


@jit
def _update_share(update, rule, table, rate, numbers, scratch, share, shares):
    for i in range(table.shape[0]):
        begin, end = _begin(table[i, _SIZE], share, shares), _begin(table[i, _SIZE], share + 1, shares)
        count, at = end - begin, begin * itemsize(rate)
        call(
            update, rule, table[i, _PARAM] + at, count, 1, table[i, _GRAD] + at, table[i, _FIRST] + at,
            table[i, _SECOND] + at, 1, count, rate, np.intp(numbers.ctypes.data), np.intp(scratch.ctypes.data),
        )  # fmt: skip


def _update(update, rule, table, numbers, max_norm, squares, scratch, threads):
    one = rate = numbers.dtype.type(1)
    for phase in range(0 if max_norm > 0.0 else 1, 2):
        for share in prange(squares.size):
            if phase == 0:
                squares[share] = _sum_of_squares(table, share, squares.size, one)
            else:
                _update_share(update, rule, table, rate, numbers, scratch[share], share, squares.size)
        if phase == 0:
            rate = numbers.dtype.type(clipping_rate(squares, max_norm))


_update_serial, _update_parallel = entry(_update), parallel_twin(_update)


def optimizer_update(plan, numbers, max_norm):
    """One step of all parameters, and of their states; gradients change only where they are clipped.

    numbers: 1-D. max_norm: of all gradients together; 0.0 for no clipping.
    """
    args = (plan.update, plan.rule, plan.table, numbers, max_norm, plan.squares, plan.scratch)
    if plan.size > PARALLEL_ABOVE:
        run(_update_serial, _update_parallel, *args)
    else:
        _update_serial(*args, 1)
