"""The second pass of a training step, over a share of the weights: dW, db, and the update."""

import numpy as np
from numba import types

from ._dtype import itemsize, lanes, one_of
from ._gemm import STORE
from ._jit import c_function, jit, once
from ._matrices import MIN_ROWS
from ._memory import call, one_element, store
from ._mlp_plan import (
    B_AT,
    B_STATE,
    BEFORE,
    DB_AT,
    DW_AT,
    ENGINE,
    IN,
    OUT,
    RULE,
    UPDATE,
    W_AT,
    W_COL,
    W_ROW,
    W_STATE,
    WIDTH,
    engine_for,
    half_of_x,
    halves,
    memory_of,
    parts_of,
    scratch_of,
)
from ._reduce import sum_of_squares


@jit
def _cost(stage, one):
    """What a row of a stage's weights costs, for an even division: columns, in whole vectors."""
    return 0 if stage[W_AT] == 0 else (stage[OUT] + lanes(one) - 1) // lanes(one)


@jit
def _first_row(stage, cost, wanted, one):
    """The row of a stage's weights at which a share begins that `wanted` of the cost lies before; in whole vectors."""
    if wanted <= 0 or cost == 0:
        return 0
    unit = max(MIN_ROWS, lanes(one))
    row = (wanted // cost + unit // 2) // unit * unit
    return stage[IN] if row > stage[IN] - MIN_ROWS else row


def _weights_pass(table, length, x, order, squares, n, part, parts, differentiate, clip, numbers, rate):
    head, stages = parts_of(table, length)
    one, size = one_of(rate), itemsize(rate)
    update, rule, scratch = head[UPDATE], head[RULE], scratch_of(head, part)
    ys, gs, _, _, gathered = memory_of(head, stages, n, one)
    total = 0
    for s in range(stages.shape[0]):
        total += stages[s, IN] * _cost(stages[s], one)
    begin, end = total * part // parts, total * (part + 1) // parts
    before, row_before = 0, 0  # of the cost, and of the rows of `squares`
    for s in range(stages.shape[0]):
        stage = stages[s]
        cost, columns = _cost(stage, one), stage[OUT]
        i0, i1 = _first_row(stage, cost, begin - before, one), _first_row(stage, cost, end - before, one)
        if part == parts - 1:
            i1 = stage[IN]
        g, g_row = gs + n * stage[BEFORE] * size, stage[WIDTH]
        if cost > 0 and i0 < i1:
            dW, rows = stage[DW_AT] + i0 * columns * size, i1 - i0
            owns_bias = i0 == 0 and stage[B_AT] != 0
            if differentiate != 0:
                for half in range(halves(stages) if s == 0 else 1):
                    first, last, a, a_row = 0, stage[IN], ys + n * stages[s - 1, BEFORE] * size, stages[s - 1, WIDTH]
                    if s == 0:
                        first, last, a, a_row = half_of_x(stages, half, x, order, gathered, n, one)
                    first_row, last_row = max(i0, first), min(i1, last)
                    if first_row < last_row:
                        engine = engine_for(head, last - first, columns, n)
                        call(
                            engine, last_row - first_row, columns, n, a + (first_row - first) * size, 1, a_row,
                            g, g_row, 1, stage[DW_AT] + first_row * columns * size, columns, STORE, 0, 0, scratch, one,
                        )  # fmt: skip
                if owns_bias:  # by the same engine, as a row of ones times g
                    call(
                        head[ENGINE], 1, columns, n, one_element(one), 0, 0, g, g_row, 1,
                        stage[DB_AT], columns, STORE, 0, 0, scratch, one,
                    )  # fmt: skip
                if clip != 0:
                    for i in range(rows):
                        store(squares, row_before + i0 + i, sum_of_squares(dW + i * columns * size, columns, one))
                    if i0 == 0:
                        bias = sum_of_squares(stage[DB_AT], columns, one) if owns_bias else 0.0
                        store(squares, row_before + stage[IN], bias)
            if (differentiate == 0 or clip == 0) and numbers != 0:
                W, at = stage[W_AT] + i0 * stage[W_ROW] * size, i0 * columns * size
                call(
                    update, rule, W, stage[W_ROW], stage[W_COL], dW, stage[W_STATE] + at, stage[W_STATE + 1] + at,
                    rows, columns, rate, numbers, scratch,
                )  # fmt: skip
                if owns_bias:
                    call(
                        update, rule, stage[B_AT], columns, 1, stage[DB_AT], stage[B_STATE], stage[B_STATE + 1],
                        1, columns, rate, numbers, scratch,
                    )  # fmt: skip
        if cost > 0:
            row_before += stage[IN] + 1
        before += stage[IN] * cost


@once
def compiled_weights_pass(dtype):
    """The function at whose ``address`` one share of the weights is differentiated and updated.

    table and its length; x, order, squares, numbers: addresses. With clipping it is called twice: to differentiate,
    which leaves the squares of the gradients; and, when their sum is known, to update with the gradients scaled by
    `rate`. numbers: 0 for no update.
    """
    real = {"f": types.float32, "d": types.float64}[np.dtype(dtype).char]
    return c_function(types.void(types.CPointer(types.int64), *[types.intp] * 10, real), _weights_pass)
