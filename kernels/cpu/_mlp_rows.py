"""The first pass of a training step: forward, loss, gradients of all stages. Some stops of it, of a share of the work.

With L stages it has 2 L + 1 stops: gather the batch, L stages forward, the loss, L - 1 stages back. A share of the
batch's rows can go through all of them without waiting for the others. But where W is large and rows are few, the
threads share out columns, since then none needs all of W; such a stop is a parallel region of its own.
"""

import functools

import numpy as np
from numba import types

from ._gemm import BIAS, BIAS_RELU, BIAS_SIGMOID, PACK_B_ROWS, RELU_GRADIENT, SIGMOID_GRADIENT, STORE
from ._jit import c_function, jit
from ._matrices import MIN_ROWS, grid, share_of
from ._mlp_activation import activate, activate_in_place, activation_gradient
from ._mlp_loss import cross_entropy, squared_error
from ._mlp_plan import (
    ACT,
    B_AT,
    BEFORE,
    ENGINE,
    IN,
    LOSS,
    NONE,
    OUT,
    RELU,
    SIGMOID,
    SQUARED_ERROR,
    TANH,
    W_AT,
    W_COL,
    W_ROW,
    WIDTH,
    memory_of,
    parts_of,
    scratch_of,
    share,
)
from ._tile import call, copy_bytes, itemsize, lanes, load, one_of

SHARE_COLUMNS_FROM = 1 << 18  # weights of a stage (measured: bench/RESULTS.md)


@jit
def stops(table):
    return 2 * table.shape[0] + 1


@jit
def next_region(table, n, stop, threads, one):
    """The parallel region that begins at a stop: where it ends, parts of rows, parts of columns."""
    end, column_parts = stop + 1, _column_parts(table, n, stop, threads, one)
    while column_parts == 1 and end < stops(table) and _column_parts(table, n, end, threads, one) == 1:
        end += 1
    return end, max(1, min(threads // column_parts, n // MIN_ROWS)), column_parts


@jit
def _column_parts(table, n, stop, threads, one):
    last = table.shape[0] - 1
    forward, back = stop - 1, 2 * last + 3 - stop
    s = forward if 0 <= forward <= last else back if 0 < back <= last else -1
    if s < 0 or table[s, W_AT] == 0 or table[s, IN] * table[s, OUT] < SHARE_COLUMNS_FROM or n >= threads * PACK_B_ROWS:
        return 1
    return grid(n, table[s, OUT] if s == forward else table[s, IN], 2 * lanes(one), threads)[1]


def _rows_pass(table, length, x, t, t_rows, order, first, n, begin, end, part, row_parts, column_parts, scale):
    head, stages = parts_of(table, length)
    last, one, size, features = stages.shape[0] - 1, one_of(scale), itemsize(scale), stages[0, IN]
    engine, scratch = head[ENGINE], scratch_of(head, part)
    ys, gs, xs, xs_row, losses, sums = memory_of(head, stages, n, one)
    r0, r1 = share(n, part // column_parts, row_parts), share(n, part // column_parts + 1, row_parts)
    rows, column_part = r1 - r0, part % column_parts
    for stop in range(begin, end):
        if stop == 0 and order != 0:
            for r in range(r0, r1):
                source = x + load(order, first + r, first) * features * size
                copy_bytes(xs + r * xs_row * size, source, features * size)
        elif 0 < stop <= last + 1:
            s = stop - 1
            stage, y_row = stages[s], stages[s, WIDTH]
            a, a_row = (xs, xs_row) if order != 0 else (x, features)
            if s > 0:
                a, a_row = ys + n * stages[s - 1, BEFORE] * size, stages[s - 1, WIDTH]
            j0, j1 = share_of(stage[OUT], 2 * lanes(one), column_part, column_parts)
            y = ys + (n * stage[BEFORE] + r0 * y_row) * size
            stage_forward(engine, stage, a + r0 * a_row * size, a_row, y, y_row, rows, j0, j1, scratch, one)
        elif stop == last + 2:
            classes, act = stages[last, OUT], stages[last, ACT]
            at, row = (n * stages[last, BEFORE] + r0 * classes) * size, r0 * size
            if head[LOSS] == SQUARED_ERROR:
                squared_error(ys + at, gs + at, rows, classes, t_rows, order, first + r0, scale, losses + row)
            else:
                cross_entropy(
                    ys + at, gs + at, rows, classes, t, t_rows, order, first + r0, scale, losses + row, sums + row
                )
            activation_gradient(act, gs + at, classes, ys + at, classes, rows, classes, one)
        elif stop > last + 2:
            s = 2 * last + 3 - stop
            stage, below = stages[s], stages[s - 1]
            g, g_row = gs + (n * stage[BEFORE] + r0 * stage[WIDTH]) * size, stage[WIDTH]
            at, row = (n * below[BEFORE] + r0 * below[WIDTH]) * size, below[WIDTH]
            j0, j1 = share_of(stage[IN], 2 * lanes(one), column_part, column_parts)
            _stage_backward(engine, stage, below[ACT], g, g_row, ys + at, gs + at, row, rows, j0, j1, scratch, one)


@functools.cache
def compiled_rows_pass(dtype):
    """The function at whose ``address`` the stops from `begin` to `end` of one share of a batch are done.

    table and its length; x, t, t_rows, order: addresses, 0 where there is no such array; the batch: `n` rows, the
    `first` and those after it; scale: of the sum of their losses. (Cached: it must outlive its callers.)
    """
    real = {"f": types.float32, "d": types.float64}[np.dtype(dtype).char]
    return c_function(types.void(types.CPointer(types.int64), *[types.intp] * 12, real), _rows_pass)


@jit
def stage_forward(engine, stage, x, x_row, y, y_row, rows, j0, j1, scratch, one):
    """y = act(x · W + b) of some rows, in columns j0 to j1; in all, without W."""
    act = stage[ACT]
    if stage[W_AT] == 0:
        activate(act, x, x_row, y, y_row, rows, stage[OUT], one)
        return
    size, ending = itemsize(one), STORE
    if stage[B_AT] != 0:
        ending = BIAS_RELU if act == RELU else BIAS_SIGMOID if act == SIGMOID else BIAS
    W, y_j = stage[W_AT] + j0 * stage[W_COL] * size, y + j0 * size
    call(
        engine, rows, j1 - j0, stage[IN], x, x_row, 1, W, stage[W_ROW], stage[W_COL],
        y_j, y_row, ending, stage[B_AT] + j0 * size, 0, scratch, one,
    )  # fmt: skip
    if act == TANH or (stage[B_AT] == 0 and act != NONE):
        activate_in_place(act, y_j, y_row, rows, j1 - j0, one)


@jit
def _stage_backward(engine, stage, act, g, g_row, y, dx, row, rows, j0, j1, scratch, one):
    """dx = g · Wᵀ · act'(y) of some rows, in columns j0 to j1; in all, without W. act, y: of the stage below."""
    size = itemsize(one)
    if stage[W_AT] == 0:
        for r in range(rows):
            copy_bytes(dx + r * row * size, g + r * g_row * size, stage[IN] * size)
        activation_gradient(act, dx, row, y, row, rows, stage[IN], one)
        return
    ending = RELU_GRADIENT if act == RELU else SIGMOID_GRADIENT if act == SIGMOID else STORE
    call(
        engine, rows, j1 - j0, stage[OUT], g, g_row, 1, stage[W_AT] + j0 * stage[W_ROW] * size, stage[W_COL],
        stage[W_ROW], dx + j0 * size, row, ending, y + j0 * size, row, scratch, one,
    )  # fmt: skip
    if act == TANH:
        activation_gradient(act, dx + j0 * size, row, y + j0 * size, row, rows, j1 - j0, one)
