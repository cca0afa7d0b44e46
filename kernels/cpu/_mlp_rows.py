"""The first pass of a training step: forward, loss, gradients of all stages. Some stops of it, of a share of the work.

With L stages it has 2 L + 2 stops: gather the batch, the first product, its sum, L - 1 stages forward, the loss, L - 1
stages back. A share of the batch's rows can go through all of them without waiting for the others. But what one thread
wrote reaches another as slowly as from memory. So there are parallel regions of their own where W or x is large:
    Where W is, and rows are few, threads share out its columns: none needs all of W.
    Where x has many features, the first product is that of two halves of them, added up afterwards. Two threads take a
    half each: there the weights stay, and the x that their gradient needs, from stop to stop and step to step.
"""

import numpy as np
from numba import types

from ._caches import LINE_BYTES
from ._dtype import itemsize, lanes, one_of
from ._gemm import BIAS, BIAS_RELU, BIAS_SIGMOID, PACK_B_ROWS, RELU_GRADIENT, SIGMOID_GRADIENT, STORE
from ._jit import c_function, jit, once
from ._matrices import MIN_ROWS, grid, share_of
from ._memory import call, copy_bytes, load, prefetch, store
from ._mlp_loss import cross_entropy, squared_error
from ._mlp_plan import (
    ACT,
    ACTIVATE,
    B_AT,
    BEFORE,
    GRADIENT,
    IN,
    LOSS,
    NONE,
    OUT,
    RELU,
    SHARE_COLUMNS_FROM,
    SIGMOID,
    SQUARED_ERROR,
    TANH,
    W_AT,
    W_COL,
    W_ROW,
    WIDTH,
    engine_for,
    half_of_x,
    halves,
    memory_of,
    parts_of,
    scratch_of,
    share,
)

_GATHER, _PRODUCT, _SUM = range(3)  # the first stops
_ROWS_AHEAD = 2  # fetched while rows of x, which lie anywhere in memory, are gathered


@jit
def stops(table):
    return 2 * table.shape[0] + 2


@jit
def next_region(table, n, stop, threads, one):
    """The parallel region that begins at a stop: where it ends, parts of rows, parts of columns."""
    end, column_parts = stop + 1, _column_parts(table, n, stop, threads, one)
    while end < stops(table) and (end <= _PRODUCT or column_parts == 1):
        if _column_parts(table, n, end, threads, one) != column_parts:
            break
        end += 1
    return end, max(1, min(threads // column_parts, n // MIN_ROWS)), column_parts


@jit
def _column_parts(table, n, stop, threads, one):
    if stop <= _PRODUCT and halves(table) == 2:
        return 2 - threads % 2
    s, is_forward = _stage_at(stop, table.shape[0] - 1)
    if s < 0 or table[s, W_AT] == 0 or table[s, IN] * table[s, OUT] < SHARE_COLUMNS_FROM or n >= threads * PACK_B_ROWS:
        return 1
    return grid(n, table[s, OUT] if is_forward else table[s, IN], 2 * lanes(one), threads)[1]


@jit
def _stage_at(stop, last):
    """Which stage's turn it is, -1 for none; and whether forward."""
    if stop == _PRODUCT:
        return 0, True
    if _SUM < stop <= last + _SUM:
        return stop - _SUM, True
    return (2 * last + _SUM + 2 - stop if stop > last + _SUM + 1 else -1), False


def _rows_pass(table, length, x, t, t_rows, order, first, n, begin, end, part, row_parts, column_parts, scale):
    head, stages = parts_of(table, length)
    last, one, size, features = stages.shape[0] - 1, one_of(scale), itemsize(scale), stages[0, IN]
    scratch = scratch_of(head, part)
    ys, gs, losses, sums, gathered = memory_of(head, stages, n, one)
    r0, r1 = share(n, part // column_parts, row_parts), share(n, part // column_parts + 1, row_parts)
    rows, column_part = r1 - r0, part % column_parts
    for stop in range(begin, end):
        s, is_forward = _stage_at(stop, last)
        if stop == _GATHER or (stop == _PRODUCT and halves(stages) == 2):
            for half in range(halves(stages)):
                if column_parts > 1 and half != column_part:
                    continue
                k0, k1, a, a_row = half_of_x(stages, half, x, order, gathered, n, one)
                if stop == _PRODUCT:
                    y, y_row = (ys if half == 0 else gs) + r0 * stages[0, WIDTH] * size, stages[0, WIDTH]
                    a += r0 * a_row * size
                    engine = engine_for(head, n, stages[0, OUT], k1 - k0)
                    _half_forward(engine, stages[0], half, k0, k1, a, a_row, y, y_row, rows, scratch, one)
                elif order != 0:
                    x_k, row_bytes = x + k0 * size, (k1 - k0) * size
                    for r in range(r0, r1):
                        ahead = x_k + load(order, first + min(r + _ROWS_AHEAD, r1 - 1), first) * features * size
                        for line in range(0, row_bytes, LINE_BYTES):
                            prefetch(ahead + line)
                        source = x_k + load(order, first + r, first) * features * size
                        copy_bytes(a + r * a_row * size, source, row_bytes)
        elif stop == _SUM and halves(stages) == 2:
            at, y_row = r0 * stages[0, WIDTH] * size, stages[0, WIDTH]
            _add(ys + at, gs + at, rows * y_row, one)
            call(head[ACTIVATE], stages[0, ACT], ys + at, y_row, rows, stages[0, OUT], one)
        elif is_forward:
            stage, y_row = stages[s], stages[s, WIDTH]
            a, a_row = ys + n * stages[s - 1, BEFORE] * size, stages[s - 1, WIDTH]
            if s == 0:
                _, _, a, a_row = half_of_x(stages, 0, x, order, gathered, n, one)
            j0, j1 = share_of(stage[OUT], 2 * lanes(one), column_part, column_parts)
            y = ys + (n * stage[BEFORE] + r0 * y_row) * size
            engine = engine_for(head, n, stage[OUT], stage[IN])
            stage_forward(head, stage, engine, a + r0 * a_row * size, a_row, y, y_row, rows, j0, j1, scratch, one)
        elif s > 0:
            stage, below = stages[s], stages[s - 1]
            g, g_row = gs + (n * stage[BEFORE] + r0 * stage[WIDTH]) * size, stage[WIDTH]
            at, row = (n * below[BEFORE] + r0 * below[WIDTH]) * size, below[WIDTH]
            j0, j1 = share_of(stage[IN], 2 * lanes(one), column_part, column_parts)
            _stage_backward(head, stage, n, below[ACT], g, g_row, ys + at, gs + at, row, rows, j0, j1, scratch, one)
        elif stop > _SUM:
            classes, act = stages[last, OUT], stages[last, ACT]
            at, row = (n * stages[last, BEFORE] + r0 * classes) * size, r0 * size
            if head[LOSS] == SQUARED_ERROR:
                squared_error(ys + at, gs + at, rows, classes, t_rows, order, first + r0, scale, losses + row)
            else:
                cross_entropy(
                    ys + at, gs + at, rows, classes, t, t_rows, order, first + r0, scale, losses + row, sums + row
                )
            call(head[GRADIENT], act, gs + at, classes, ys + at, classes, rows, classes, one)


@once
def compiled_rows_pass(dtype):
    """The function at whose ``address`` the stops from `begin` to `end` of one share of a batch are done.

    table and its length; x, t, t_rows, order: addresses, 0 where there is no such array; the batch: `n` rows, the
    `first` and those after it; scale: of the sum of their losses.
    """
    real = {"f": types.float32, "d": types.float64}[np.dtype(dtype).char]
    return c_function(types.void(types.CPointer(types.int64), *[types.intp] * 12, real), _rows_pass)


@jit
def _half_forward(engine, stage, half, k0, k1, x, x_row, y, y_row, rows, scratch, one):
    """y = x · W of some features, for the first half + b."""
    has_bias = half == 0 and stage[B_AT] != 0
    call(
        engine, rows, stage[OUT], k1 - k0, x, x_row, 1, stage[W_AT] + k0 * stage[W_ROW] * itemsize(one), stage[W_ROW],
        stage[W_COL], y, y_row, BIAS if has_bias else STORE, stage[B_AT], 0, scratch, one,
    )  # fmt: skip


@jit
def _add(y, other, count, one):
    for i in range(count):
        store(y, i, load(y, i, one) + load(other, i, one))


@jit
def stage_forward(head, stage, engine, x, x_row, y, y_row, rows, j0, j1, scratch, one):
    """y = act(x · W + b) of some rows, in columns j0 to j1; in all, without W. engine: address of the product."""
    act, size, ending = stage[ACT], itemsize(one), STORE
    if stage[W_AT] == 0:
        for r in range(rows):
            copy_bytes(y + r * y_row * size, x + r * x_row * size, stage[OUT] * size)
        call(head[ACTIVATE], act, y, y_row, rows, stage[OUT], one)
        return
    if stage[B_AT] != 0:
        ending = BIAS_RELU if act == RELU else BIAS_SIGMOID if act == SIGMOID else BIAS
    W, y_j = stage[W_AT] + j0 * stage[W_COL] * size, y + j0 * size
    call(
        engine, rows, j1 - j0, stage[IN], x, x_row, 1, W, stage[W_ROW], stage[W_COL],
        y_j, y_row, ending, stage[B_AT] + j0 * size, 0, scratch, one,
    )  # fmt: skip
    if act == TANH or (stage[B_AT] == 0 and act != NONE):
        call(head[ACTIVATE], act, y_j, y_row, rows, j1 - j0, one)


@jit
def _stage_backward(head, stage, n, act, g, g_row, y, dx, row, rows, j0, j1, scratch, one):
    """dx = g · Wᵀ · act'(y) of some rows of n, in columns j0 to j1; in all, without W. act, y: of the stage below."""
    size = itemsize(one)
    if stage[W_AT] == 0:
        for r in range(rows):
            copy_bytes(dx + r * row * size, g + r * g_row * size, stage[IN] * size)
        call(head[GRADIENT], act, dx, row, y, row, rows, stage[IN], one)
        return
    ending = RELU_GRADIENT if act == RELU else SIGMOID_GRADIENT if act == SIGMOID else STORE
    engine, W_j = engine_for(head, n, stage[IN], stage[OUT]), stage[W_AT] + j0 * stage[W_ROW] * size
    call(
        engine, rows, j1 - j0, stage[OUT], g, g_row, 1, W_j, stage[W_COL], stage[W_ROW],
        dx + j0 * size, row, ending, y + j0 * size, row, scratch, one,
    )  # fmt: skip
    if act == TANH:
        call(head[GRADIENT], act, dx + j0 * size, row, y + j0 * size, row, rows, j1 - j0, one)
