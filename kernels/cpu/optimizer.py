"""Optimizers: one step of many parameters in one call. Formulas, and what numbers are: kernels/ref/optimizer.py.

Parameters, gradients and states (v, h, or m and v) are contiguous, numbers too, all of one dtype, float32 or float64.
Rules give just the bits of NumPy, however work is shared out. Each is compiled once and called by its address, here and
in the compiled step, for some thousand elements at a time: see _update.py.
"""

import functools
import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numba import carray, types

from .._threads import limit
from ._dtype import itemsize, least_state_of, smallest_root_of, zero_of
from ._jit import c_function, jit, once
from ._math import in_dtype_of
from ._memory import call, load, store
from ._objects import (
    DATA,
    ERROR,
    FLOAT,
    FLOAT32,
    FLOAT64,
    NO,
    OWN,
    TYPE,
    VALUE,
    YES,
    answer,
    begin_work,
    end_work,
    is_plain,
    python_function,
    read,
    table_of,
)
from ._parts import in_parts
from ._reduce import sum_of_squares
from ._update import PIECE, compiled_update, rate_for
from ._workers import launch_workers

# Columns of the table, one row a parameter: addresses (0 where there is no such state) and the number of elements.
_PARAM, _GRAD, _FIRST, _SECOND, _SIZE = range(5)
_COLUMNS = 5

# What a step reads in the table of a plan: addresses of functions (the step itself, a share of it, the update of a
# piece, the rule), of the table above and how many rows it has, of the squares of the gradients of each share, and of
# scratch memory for each; how many shares, how many elements there are; and where to find the dtype.
_STEP, _SHARE, _UPDATE, _RULE, _ROWS, _COUNT, _SQUARES, _SCRATCH, _SCRATCH_ROW, _SHARES, _SIZE_OF_ALL, _DTYPE = range(
    OWN, OWN + 96, 8
)

# Elements of all parameters from which waking the threads pays (measured: bench/RESULTS.md).
PARALLEL_ABOVE = 20_000
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
    """What an optimizer works on."""

    at_once: Callable  # (numbers, max_norm): a step, past Numba's dispatcher, see _objects.py
    step: Callable  # (address of numbers, max_norm, 1, threads): the same
    size: int  # elements of all parameters
    known: tuple  # arrays whose addresses both have


def optimizer_plan(rule, params, grads, states):
    """Describe to `optimizer_update` what it works on.

    rule: "sgd", "momentum", "nesterov", "adagrad", "rmsprop" or "adam". params, grads: arrays of equal shapes, none of
    which share memory. states: for each parameter the arrays of its state. All of them must outlive the plan.
    """
    rows = np.array(
        [
            (_at(param), _at(grad), *map(_at, state), *[0] * (2 - len(state)), param.size)
            for param, grad, state in zip(params, grads, states, strict=True)
        ],
        np.int64,
    ).reshape(len(params), _COLUMNS)
    dtype, size = params[0].dtype, sum(param.size for param in params)
    shares = min(1 << max(size // _LEAST_SHARE, 1).bit_length() - 1, _MOST_SHARES)
    squares, scratch = np.empty(shares), np.empty((shares, 2 * PIECE), dtype)  # pages that nobody touches cost nothing
    share, step = _compiled_functions(dtype.char)
    table = table_of(
        step.address, share.address, compiled_update(dtype.char).address, compiled_rule(rule, dtype.char).address,
        _at(rows), len(rows), _at(squares), _at(scratch), scratch.strides[0], shares, size,
        FLOAT32 if dtype.char == "f" else FLOAT64,
    )  # fmt: skip
    by_address = functools.partial(step.ctypes, _at(table))
    return OptimizerPlan(python_function(_at_once, table), by_address, size, (table, rows, squares, scratch))


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


def _step(table, numbers, max_norm, one, threads):
    """One step of all parameters; table, numbers: addresses."""
    function, shares, squares, rate = read(table, _SHARE), read(table, _SHARES), read(table, _SQUARES), one
    for phase in range(0 if max_norm > 0.0 else 1, 2):
        before = (
            read(table, _UPDATE), read(table, _RULE), read(table, _ROWS), read(table, _COUNT), numbers, squares,
            read(table, _SCRATCH), read(table, _SCRATCH_ROW), phase, shares,
        )  # fmt: skip
        if threads > 1:
            in_parts(threads, shares, function, before, (rate,))
        else:
            for share in range(shares):
                call(function, *before, share, rate)
        if phase == 0:
            total = 0.0
            for share in range(shares):
                total += load(squares, share, total)
            rate = in_dtype_of(one, rate_for(total, max_norm))


@once
def _compiled_functions(dtype):
    """`_update_share` and `_step` compiled."""
    real = {"f": types.float32, "d": types.float64}[np.dtype(dtype).char]
    launch_workers()
    intp = types.intp
    share = c_function(types.void(intp, intp, types.CPointer(types.int64), *[intp] * 8, real), _update_share)
    return share, c_function(types.void(intp, intp, types.float64, real, intp), _step)


@jit
def _work(table, args, count):
    """Do a step if all is as it should be; whether it was done, or there was an exception."""
    numbers, max_norm, dtype = read(args, 0), read(args, 8), read(table, read(table, _DTYPE))
    if count != 2 or not is_plain(table, numbers, dtype) or read(max_norm, TYPE) != read(table, FLOAT):
        return NO
    is_large = read(table, _SIZE_OF_ALL) > PARALLEL_ABOVE
    threads, python = begin_work(table, is_large)
    if threads == 0:
        return ERROR
    step, at, limit = read(table, _STEP), read(numbers, DATA), load(max_norm + VALUE, 0, 0.0)
    if dtype == read(table, FLOAT32):
        call(step, table, at, limit, np.float32(1), threads)
    else:
        call(step, table, at, limit, np.float64(1), threads)
    end_work(is_large, python)
    return YES


def _at_once(table, args, count):
    """What Python calls; see _objects.py."""
    table = read(table, DATA)
    return answer(table, _work(table, args, count))


def optimizer_update(plan, numbers, max_norm):
    """One step of all parameters, and of their states; gradients change only where they are clipped.

    numbers: 1-D. max_norm: of all gradients together; 0.0 for no clipping.
    """
    if plan.at_once(numbers, max_norm):
        return
    plan.step(_at(numbers), max_norm, 1, limit.threads if plan.size > PARALLEL_ABOVE else 1)
