"""Optimizers: one step of many parameters in one call. Formulas, and what numbers are: kernels/ref/optimizer.py.

Parameters, gradients and states (v, h, or m and v) are contiguous, numbers too, all of one dtype, float32 or float64.
Rules give just the bits of NumPy, however work is shared out. Each is compiled once and called by its address, here and
in the compiled step, for some thousand elements at a time: see _update.py.
"""

import math
from typing import NamedTuple

import numpy as np
from numba import carray, types

from ._dtype import itemsize, least_state_of, smallest_root_of, zero_of
from ._jit import c_function, entry, jit, once
from ._memory import address, call, store
from ._parts import in_parts
from ._reduce import sum_of_squares
from ._threads import launch_threads, on_threads
from ._update import PIECE, clipping_rate, compiled_update

# Columns of the table, one row a parameter: addresses (0 where there is no such state) and the number of elements.
_PARAM, _GRAD, _FIRST, _SECOND, _SIZE = range(5)
_COLUMNS = 5

# Elements of all parameters from which waking the threads pays (measured: bench/RESULTS.md).
PARALLEL_ABOVE = 30_000
# How work is shared out must not depend on the threads: norms are sums over shares. Their number is a power of two, so
# that two threads update the halves of W whose gradients they computed.
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


@once
def compiled_rule(name, dtype):
    """A rule compiled for a dtype; its ``address`` is what kernels call."""
    pointer = types.CPointer({"f": types.float32, "d": types.float64}[np.dtype(dtype).char])
    return c_function(types.void(types.intp, *[pointer] * 5), _RULES[name])


class OptimizerPlan(NamedTuple):
    """What an optimizer works on, as the compiled function sees it."""

    share: int  # addresses of the functions for a share of the parameters and for a piece of them, and of the rule
    update: int
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
    ).reshape(len(params), _COLUMNS)
    dtype, size = params[0].dtype, sum(param.size for param in params)
    shares = min(1 << max(size // _LEAST_SHARE, 1).bit_length() - 1, _MOST_SHARES)
    functions = _compiled_share(dtype.char), compiled_update(dtype.char), compiled_rule(rule, dtype.char)
    addresses = (function.address for function in functions)
    return OptimizerPlan(*addresses, table, np.empty(shares), np.empty((shares, 2 * PIECE), dtype), size)


def _at(array):
    return array.__array_interface__["data"][0]  # half the time of array.ctypes.data


@jit
def _begin(size, share, shares):
    return size if share == shares else size // _ALIGNMENT * share // shares * _ALIGNMENT


def _update_share(update, rule, table, params, numbers, squares, scratch, scratch_row, phase, shares, share, rate):
    """The squares of a share of the gradients, in the first phase; in the second what they do to the parameters."""
    rows, square = carray(table, (params, _COLUMNS)), 0.0
    for row in rows:
        begin, end = _begin(row[_SIZE], share, shares), _begin(row[_SIZE], share + 1, shares)
        count, at = end - begin, begin * itemsize(rate)
        if phase == 0:
            square += sum_of_squares(row[_GRAD] + at, count, rate)
        else:
            call(
                update, rule, row[_PARAM] + at, count, 1, row[_GRAD] + at, row[_FIRST] + at, row[_SECOND] + at,
                1, count, rate, numbers, scratch + share * scratch_row,
            )  # fmt: skip
    if phase == 0:
        store(squares, share, square)


@once
def _compiled_share(dtype):
    """`_update_share` compiled; its ``address`` is what `_update` calls."""
    real = {"f": types.float32, "d": types.float64}[np.dtype(dtype).char]
    launch_threads()
    intp, table = types.intp, types.CPointer(types.int64)
    return c_function(types.void(intp, intp, table, *[intp] * 8, real), _update_share)


@entry
def _update(function, update, rule, table, numbers, max_norm, squares, scratch, threads):
    rate, shares = numbers.dtype.type(1), squares.size
    for phase in range(0 if max_norm > 0.0 else 1, 2):
        before = (
            update, rule, address(table), table.shape[0], address(numbers), address(squares), address(scratch),
            scratch.strides[0], phase, shares,
        )  # fmt: skip
        if threads > 1:
            in_parts(threads, shares, function, before, (rate,))
        else:
            for share in range(shares):
                call(function, *before, share, rate)
        if phase == 0:
            rate = numbers.dtype.type(clipping_rate(squares, max_norm))


def optimizer_update(plan, numbers, max_norm):
    """One step of all parameters, and of their states; gradients change only where they are clipped.

    numbers: 1-D. max_norm: of all gradients together; 0.0 for no clipping.
    """
    args = (plan.share, plan.update, plan.rule, plan.table, numbers, max_norm, plan.squares, plan.scratch)
    if plan.size > PARALLEL_ABOVE:
        on_threads(_update, *args)
    else:
        _update(*args, 1)
