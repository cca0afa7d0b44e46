"""What an optimizer does to parameters given by their address: shared by optimizer.py and the compiled step.

A piece at a time, which stays in the cache: clip the gradient, weight decay, the rule.
"""

import math

import numpy as np
from numba import types

from ._dtype import itemsize, one_of, smallest_normal_of, zero_of
from ._jit import c_function, jit, once
from ._memory import call, load, store

PIECE = 4096  # elements
_DECAY, _KEEP, _OF_RULE = range(3)  # among the numbers; those of the rule begin at _OF_RULE


@jit
def clipping_rate(squares, max_norm):
    """The factor that brings gradients to the norm; if it is not below 1 (or NaN), they are left alone."""
    total = 0.0
    for square in squares:
        total += square
    return rate_for(total, max_norm)


@jit
def rate_for(square_of_norm, max_norm):
    """The same, of gradients whose norm is known."""
    return max_norm / (math.sqrt(square_of_norm) + 1e-6)


@jit
def _multiply(a, count, factor):
    for i in range(count):
        store(a, i, load(a, i, factor) * factor)


@jit
def _add_decay(out, grad, param, count, decay):
    zero, limit = zero_of(decay), smallest_normal_of(decay) / abs(decay)  # below it the product would be subnormal
    for i in range(count):
        p = load(param, i, decay)
        p = zero if abs(p) < limit else p
        store(out, i, load(grad, i, decay) + decay * p)


@jit
def _copy_strided(out, out_step, a, a_step, count, one):
    for i in range(count):
        store(out, i * out_step, load(a, i * a_step, one))


def _update(rule, param, row, step, grad, first, second, rows, columns, rate, numbers, scratch):
    size, one = itemsize(rate), one_of(rate)
    decay, keep = load(numbers, _DECAY, rate), load(numbers, _KEEP, rate)
    if step == 1 and row == columns:
        rows, columns = 1, rows * columns
    piece = PIECE if decay == 0 else PIECE // 4  # what lies in scratch memory stays in the first-level cache, too
    for i in range(rows):
        for j in range(0, columns, piece):
            n, at = min(piece, columns - j), (i * columns + j) * size
            p, g = param + (i * row + j * step) * size, grad + at
            strided = p
            if rate < one:
                _multiply(g, n, rate)
            if step != 1:
                _copy_strided(scratch, 1, strided, step, n, rate)
                p = scratch
            if decay != 0:
                _add_decay(scratch + PIECE * size, g, p, n, decay)
                g = scratch + PIECE * size
            if keep != one:
                _multiply(p, n, keep)
            call(rule, n, p, g, first + at, second + at, numbers + _OF_RULE * size)
            if step != 1:
                _copy_strided(strided, step, p, 1, n, rate)


@jit
def update_small(update, rule, param, row, step, grad, first, second, rows, columns, rate, numbers, scratch):
    """As `update`, for a piece or less: straight to the rule where there is nothing else to do: 0.03 µs less."""
    one = one_of(rate)
    if step != 1 or row != columns or rate < one or load(numbers, _DECAY, one) != 0 or load(numbers, _KEEP, one) != one:
        call(update, rule, param, row, step, grad, first, second, rows, columns, rate, numbers, scratch)
    else:
        call(rule, rows * columns, param, grad, first, second, numbers + _OF_RULE * itemsize(one))


@once
def compiled_update(dtype):
    """The function at whose ``address`` kernels update a matrix of parameters.

    rule: address, see optimizer.py. param, grad, first, second: addresses of a parameter whose rows are `row` apart and
    columns `step`, its gradient and state, whose rows follow each other without gaps. rate: for the gradients, see
    `clipping_rate`. numbers: address. scratch: memory for 2 · PIECE elements.
    """
    real = {"f": types.float32, "d": types.float64}[np.dtype(dtype).char]
    return c_function(types.void(*[types.intp] * 9, real, types.intp, types.intp), _update)
