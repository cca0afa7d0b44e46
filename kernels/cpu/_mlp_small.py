"""A whole training step of a small network, with samples in the lanes of vectors.

Its products take less time than calls of the engine (_gemm.py) for them. Here outputs and gradients of a stage lie unit
by unit, each a row with the batch's samples, filled up to whole vectors with zeros, or what activations make of them:
    y_j = act(b_j + sum_k W[k, j] · x_k)     g_k = act'(y_k) · sum_j W[k, j] · g_j     of rows
    dW[k, j] = x_k · g_j                     db_j = 1 · g_j                            of rows: sums over the samples
"""

import numpy as np
from numba import types

from ._caches import round_up
from ._dtype import itemsize, lanes, one_of, zero_of
from ._elementwise import in_vectors
from ._jit import c_function, jit, once
from ._lanes import (
    add,
    all_lanes,
    divide,
    first_lanes,
    larger_lanes,
    load_lanes,
    multiply,
    multiply_add,
    store_lanes,
    store_sums,
    subtract,
    where_equal,
)
from ._math import exp, in_dtype_of, log
from ._memory import call, load, store
from ._mlp_plan import (
    ACT,
    ACTIVATE,
    B_AT,
    B_STATE,
    BEFORE,
    DB_AT,
    DW_AT,
    GRADIENT,
    IN,
    LOSS,
    NONE,
    OUT,
    RULE,
    SQUARED_ERROR,
    UPDATE,
    W_AT,
    W_COL,
    W_ROW,
    W_STATE,
    memory_of,
    parts_of,
    scratch_of,
)
from ._reduce import sum_of_squares
from ._simd import VECTORS
from ._tile import zero_row
from ._update import rate_for, update_small

_MOST_WORK = 16  # multiply-adds a sample for each lane of a vector (measured: bench/RESULTS.md)


def is_small(plan, dtype):
    """Whether the network is one for this file."""
    most = _MOST_WORK * VECTORS.bytes // dtype.itemsize
    return plan.work <= most and bool(plan.table[1:, W_AT].all())


@jit
def filled_up(n, one):
    """The samples that there is memory for in a batch of n."""
    return round_up(n, lanes(one))


@jit
def _gather(to, a, columns, order, first, n, row, one):
    """The columns of the batch's rows of an array, as rows."""
    for k in range(columns):
        for r in range(n):
            source = load(order, first + r, first) if order != 0 else first + r
            store(to, k * row + r, load(a, source * columns + k, one))
    for k in range(columns):
        for r in range(n, row):
            store(to, k * row + r, zero_of(one))


@jit
def _weighted_sums(y, columns, start, start_step, w, w_step, step, x, depth, row, n, one):
    """y_j = start_j + sum over k of w_jk · x_k, by fours of them; the weights are `step` apart."""
    size, last = itemsize(one), columns - 1
    for j in range(0, columns, 4):
        j_1, j_2, j_3 = min(j + 1, last), min(j + 2, last), min(j + 3, last)  # the last is computed again
        for r in range(0, row, lanes(one)):
            a, b = all_lanes(load(start, j * start_step, one)), all_lanes(load(start, j_1 * start_step, one))
            c, d = all_lanes(load(start, j_2 * start_step, one)), all_lanes(load(start, j_3 * start_step, one))
            for k in range(depth):
                x_k, w_k = load_lanes(x + (k * row + r) * size, one), w + k * step * size
                a = multiply_add(all_lanes(load(w_k, j * w_step, one)), x_k, a)
                b = multiply_add(all_lanes(load(w_k, j_1 * w_step, one)), x_k, b)
                c = multiply_add(all_lanes(load(w_k, j_2 * w_step, one)), x_k, c)
                d = multiply_add(all_lanes(load(w_k, j_3 * w_step, one)), x_k, d)
            left = n - r
            store_lanes(y + (j * row + r) * size, first_lanes(a, left))
            store_lanes(y + (j_1 * row + r) * size, first_lanes(b, left))
            store_lanes(y + (j_2 * row + r) * size, first_lanes(c, left))
            store_lanes(y + (j_3 * row + r) * size, first_lanes(d, left))


@jit
def _dots(out, x, y, columns, row, one):
    """out[j] = the sum of x · y_j. Up to three more rows are read than there are columns."""
    size, step, zeros = itemsize(one), row * itemsize(one), all_lanes(zero_of(one))
    for j in range(0, columns, 4):
        a = b = c = d = zeros
        y_j = y + j * step
        for r in range(0, step, lanes(one) * size):
            x_r = load_lanes(x + r, one)
            a = multiply_add(x_r, load_lanes(y_j + r, one), a)
            b = multiply_add(x_r, load_lanes(y_j + step + r, one), b)
            c = multiply_add(x_r, load_lanes(y_j + 2 * step + r, one), c)
            d = multiply_add(x_r, load_lanes(y_j + 3 * step + r, one), d)
        store_sums(out + j * size, a, b, c, d, columns - j)


@jit
def _label(labels, c, has_rows, row, r, one):
    """Of class c: a row of its own, or whether it is the class that the row names."""
    size = itemsize(one)
    if has_rows:
        return load_lanes(labels + (c * row + r) * size, one)
    named = load_lanes(labels + r * size, one)
    return where_equal(named, all_lanes(in_dtype_of(one, c)), all_lanes(one), all_lanes(zero_of(one)))


@jit
def _squared_error(y, g, t, columns, row, n, scale, losses, one):
    """As of _mlp_loss.py."""
    size = itemsize(one)
    for r in range(0, row, lanes(one)):
        total = all_lanes(zero_of(one))
        for c in range(columns):
            at = (c * row + r) * size
            d = first_lanes(subtract(load_lanes(y + at, one), load_lanes(t + at, one)), n - r)
            total = multiply_add(d, d, total)
            store_lanes(g + at, multiply(all_lanes(scale + scale), d))
        store_lanes(losses + r * size, total)


@jit
def _cross_entropy(z, g, labels, has_rows, classes, row, n, scale, nll, sums, one):
    """As of _mlp_loss.py."""
    in_vectors()  # as wide as they are read afterwards: halves would have to reach the cache first
    size, zeros = itemsize(one), all_lanes(zero_of(one))
    for r in range(0, row, lanes(one)):
        m = load_lanes(z + r * size, one)
        for c in range(1, classes):
            m = larger_lanes(load_lanes(z + (c * row + r) * size, one), m)
        for c in range(classes):
            at = (c * row + r) * size
            store_lanes(g + at, subtract(load_lanes(z + at, one), m))
        store_lanes(nll + r * size, m)
    for i in range(classes * row):
        store(g, i, exp(load(g, i, one)))
    for r in range(0, row, lanes(one)):
        s, total = zeros, zeros
        for c in range(classes):
            s = add(s, load_lanes(g + (c * row + r) * size, one))
            total = add(total, _label(labels, c, has_rows, row, r, one))
        store_lanes(sums + r * size, s)
        q = divide(total, s)
        for c in range(classes):
            at = g + (c * row + r) * size
            d = subtract(multiply(load_lanes(at, one), q), _label(labels, c, has_rows, row, r, one))
            store_lanes(at, first_lanes(multiply(all_lanes(scale), d), n - r))
    for r in range(row):
        store(sums, r, log(load(sums, r, one)))
    for r in range(0, row, lanes(one)):
        m, log_s, loss = load_lanes(nll + r * size, one), load_lanes(sums + r * size, one), zeros
        for c in range(classes):
            t = _label(labels, c, has_rows, row, r, one)
            of_class = multiply(t, add(log_s, subtract(m, load_lanes(z + (c * row + r) * size, one))))
            loss = add(loss, where_equal(t, zeros, zeros, of_class))
        store_lanes(nll + r * size, loss)


def _small_step(table, length, x, t, t_rows, order, first, n, numbers, max_norm, scale):
    head, stages = parts_of(table, length)
    one, size = one_of(scale), itemsize(scale)
    last, row = stages.shape[0] - 1, filled_up(n, one)
    classes, row_bytes = stages[last, OUT], row * size
    ys, gs, losses, sums, xs = memory_of(head, stages, row, one)
    labels = xs + stages[0, IN] * row_bytes
    ones = labels + classes * row_bytes

    for r in range(row):
        store(ones, r, one)

    _gather(xs, x, stages[0, IN], order, first, n, row, one)
    for s in range(last + 1):
        stage = stages[s]
        x_s, y = xs if s == 0 else ys + stages[s - 1, BEFORE] * row_bytes, ys + stage[BEFORE] * row_bytes
        b, b_step = (zero_row(one), 0) if stage[B_AT] == 0 else (stage[B_AT], 1)
        W, W_row, W_col = stage[W_AT], stage[W_ROW], stage[W_COL]
        _weighted_sums(y, stage[OUT], b, b_step, W, W_col, W_row, x_s, stage[IN], row, n, one)
        if stage[ACT] != NONE:
            call(head[ACTIVATE], stage[ACT], y, row, stage[OUT], row, one)

    if t_rows != 0:
        _gather(labels, t_rows, classes, order, first, n, row, one)
    else:
        for r in range(n):
            label = load(t, load(order, first + r, first) if order != 0 else first + r, first)
            store(labels, r, in_dtype_of(one, label))
    at = stages[last, BEFORE] * row_bytes
    if head[LOSS] == SQUARED_ERROR:
        _squared_error(ys + at, gs + at, labels, classes, row, n, scale, losses, one)
    else:
        _cross_entropy(ys + at, gs + at, labels, t_rows != 0, classes, row, n, scale, losses, sums, one)

    square_of_norm = 0.0
    for s in range(last, -1, -1):
        stage, columns = stages[s], stages[s, OUT]
        y, g, x_s = ys + stage[BEFORE] * row_bytes, gs + stage[BEFORE] * row_bytes, xs
        if stage[ACT] != NONE:
            call(head[GRADIENT], stage[ACT], g, columns * row, y, columns * row, 1, columns * row, one)
        if s > 0:
            before = stages[s - 1, BEFORE] * row_bytes
            x_s = ys + before
            W, W_row, W_col = stage[W_AT], stage[W_ROW], stage[W_COL]
            _weighted_sums(gs + before, stage[IN], zero_row(one), 0, W, W_row, W_col, g, columns, row, n, one)
        for k in range(stage[IN]):
            _dots(stage[DW_AT] + k * columns * size, x_s + k * row_bytes, g, columns, row, one)
        if stage[B_AT] != 0:
            _dots(stage[DB_AT], ones, g, columns, row, one)
        if max_norm > 0:
            square_of_norm += sum_of_squares(stage[DW_AT], stage[IN] * columns, one)
            square_of_norm += sum_of_squares(stage[DB_AT], columns, one) if stage[B_AT] != 0 else 0.0

    if numbers != 0:
        rate = in_dtype_of(one, rate_for(square_of_norm, max_norm)) if max_norm > 0 else one
        update, rule, scratch = head[UPDATE], head[RULE], scratch_of(head, 0)
        for s in range(last + 1):
            stage = stages[s]
            columns = stage[OUT]
            update_small(
                update, rule, stage[W_AT], stage[W_ROW], stage[W_COL], stage[DW_AT], stage[W_STATE],
                stage[W_STATE + 1], stage[IN], columns, rate, numbers, scratch,
            )  # fmt: skip
            if stage[B_AT] != 0:
                update_small(
                    update, rule, stage[B_AT], columns, 1, stage[DB_AT], stage[B_STATE], stage[B_STATE + 1], 1, columns,
                    rate, numbers, scratch,
                )  # fmt: skip


@once
def compiled_small_step(dtype):
    """The function at whose ``address`` one step is done, on the calling thread.

    table and its length; x, t, t_rows, order, numbers: addresses, 0 where there is no such array, or for no update; the
    batch: `n` rows, the `first` and those after it; max_norm: of all gradients together, 0.0 for no clipping; scale: of
    the sum of their losses.
    """
    real = {"f": types.float32, "d": types.float64}[np.dtype(dtype).char]
    return c_function(types.void(types.CPointer(types.int64), *[types.intp] * 8, types.float64, real), _small_step)
