"""A whole multi-layer perceptron in one call: training steps, or scores. Sibling: kernels/ref/mlp.py.

A stage is y = act(x · W + b), or without b, or act alone. One training step, for a batch of N:
    by shares of rows:     y of all stages, the loss, and the gradients g of all stages back to the first
    by shares of weights:  dW = xᵀ · g, db = sum over rows of g, and the update W <- W - lr · dW, b <- b - lr · db
Two parallel regions a step instead of two a layer; how rows and weights are shared out changes no sum, so results are
bitwise the same for any number of threads. The network is a table of numbers (addresses, sizes, strides), so that one
compiled function serves every depth and width. float32 or float64; loss: mean cross-entropy of softmax, see
softmax_with_loss.py.
"""

import math
from typing import NamedTuple

import numba
import numpy as np
from numba import prange

from ._gemm import (
    BIAS,
    BIAS_RELU,
    BIAS_SIGMOID,
    RELU_GRADIENT,
    SCRATCH_BYTES,
    SIGMOID_GRADIENT,
    STORE,
    compiled_product,
)
from ._jit import jit, parallel_twin
from ._math import exp, log, row_max
from ._tile import call, copy_bytes, itemsize, lanes, load, one_element, one_of, store, zero_of
from .softmax import exp_in_place, softmax_rows

# Columns of the table: one row a stage. Addresses are 0 where there is no such array; strides and sizes in elements.
_IN, _OUT, _W, _W_ROW, _W_COL, _B, _DW, _DB, _ACT, _WIDTH, _BEFORE = range(11)
_COLUMNS = 11
_NONE, _RELU, _SIGMOID = range(3)
_ACTIVATIONS = {None: _NONE, "relu": _RELU, "sigmoid": _SIGMOID}

# Multiply-adds from which waking the threads pays (measured: bench/RESULTS.md).
PARALLEL_ABOVE = 1_000_000
_MIN_ROWS = 4  # of a share: fewer would be summed in another order (see _gemm.py)
_PREDICT_ROWS = 96  # at a time: their activations stay in the second-level cache


class Plan(NamedTuple):
    """A network as the compiled functions see it."""

    table: np.ndarray
    work: int  # multiply-adds a sample
    engine: int  # address of the matrix product


def mlp_plan(stages):
    """Describe a network to the other functions.

    stages: (W, b, dW, db, activation) each, in order. W (D, F) of any strides, b (F,), dW and db like them but
    contiguous, or None; activation None, "relu" or "sigmoid". All arrays of one dtype. They must outlive the plan.
    """
    weights = [W for W, *_ in stages if W is not None]
    size, features, before = weights[0].itemsize, weights[0].shape[0], 0
    table = np.zeros((len(stages), _COLUMNS), np.int64)
    for row, (W, b, dW, db, activation) in zip(table, stages, strict=True):
        row[_IN] = features
        if W is not None:
            features = W.shape[1]
            row[_W], row[_W_ROW], row[_W_COL] = W.ctypes.data, W.strides[0] // size, W.strides[1] // size
            row[_B], row[_DB] = (0, 0) if b is None else (b.ctypes.data, db.ctypes.data)
            row[_DW] = dW.ctypes.data
        row[_OUT], row[_ACT] = features, _ACTIVATIONS[activation]
        row[_WIDTH], row[_BEFORE] = _padded(features, size), before
        before += row[_WIDTH]
    table[-1, _WIDTH] = features  # scores and their gradients lie row by row without gaps
    return Plan(table, sum(W.size for W in weights), compiled_product(weights[0].dtype.char).address)


@jit
def _padded(features, size):
    """Distance between rows: rows that lie multiples of 2 KB apart displace each other from the cache."""
    return features + 64 // size if features * size % 2048 == 0 else features


def mlp_workspace(plan, batch_size, dtype):
    """Memory in which `mlp_train` keeps a batch's activations and gradients, for batches up to batch_size."""
    table = plan.table
    per_sample = 2 * int(table[:, _WIDTH].sum()) + int(_padded(table[0, _IN], np.dtype(dtype).itemsize)) + 2
    rows_of_weights = int(table[:, _IN].sum()) + len(table)
    return np.empty(per_sample * batch_size, dtype), _scratch(), np.zeros(rows_of_weights)


def mlp_predict_workspace(plan, dtype):
    """Memory in which `mlp_predict` keeps the activations of a few rows a thread."""
    widest = int(plan.table[:, _WIDTH].max())
    return np.empty((numba.config.NUMBA_NUM_THREADS, 2 * _PREDICT_ROWS * widest), dtype), _scratch()


def _scratch():
    return np.empty((numba.config.NUMBA_NUM_THREADS, SCRATCH_BYTES), np.uint8)  # pages that nobody touches cost nothing


@jit
def _address(a):
    """Signed: where Numba's types of signed and unsigned integers meet, they become float64."""
    return np.intp(a.ctypes.data)


@jit
def _share(length, part, parts):
    """Where the share of a part of `length` begins: at a multiple of _MIN_ROWS, and never fewer before the end."""
    units = length // _MIN_ROWS
    return length if part == parts else units * part // parts * _MIN_ROWS


@jit
def _activate(kind, x, x_row, y, y_row, rows, columns, one):
    """y = act(x), elementwise."""
    size = itemsize(one)
    for i in range(rows):
        copy_bytes(y + i * y_row * size, x + i * x_row * size, columns * size)
    _activate_in_place(kind, y, y_row, rows, columns, one)


@jit
def _activate_in_place(kind, y, y_row, rows, columns, one):
    """y = act(y), elementwise. With one address: a loop that might write what it reads later is not vectorised."""
    size, zero = itemsize(one), zero_of(one)
    if y_row == columns:
        rows, columns = 1, rows * columns
    for i in range(rows):
        y_i = y + i * y_row * size
        if kind == _RELU:
            for j in range(columns):
                store(y_i, j, zero if load(y_i, j, one) <= zero else load(y_i, j, one))
        elif kind == _SIGMOID:
            for j in range(columns):
                store(y_i, j, one / (one + exp(-load(y_i, j, one))))


@jit
def _activation_gradient(kind, g, g_row, y, y_row, rows, columns, one):
    """g = g · act'(x), of y = act(x), elementwise."""
    size, zero = itemsize(one), zero_of(one)
    for i in range(rows):
        g_i, y_i = g + i * g_row * size, y + i * y_row * size
        if kind == _RELU:
            for j in range(columns):
                store(g_i, j, zero if load(y_i, j, one) <= zero else load(g_i, j, one))
        elif kind == _SIGMOID:
            for j in range(columns):
                store(g_i, j, load(g_i, j, one) * load(y_i, j, one) * (one - load(y_i, j, one)))


@jit
def _stage_forward(engine, stage, x, x_row, y, y_row, rows, scratch, one):
    """y = act(x · W + b) of some rows."""
    act = stage[_ACT]
    if stage[_W] == 0:
        _activate(act, x, x_row, y, y_row, rows, stage[_OUT], one)
        return
    ending = STORE
    if stage[_B] != 0:
        ending = BIAS_RELU if act == _RELU else BIAS_SIGMOID if act == _SIGMOID else BIAS
    call(
        engine, rows, stage[_OUT], stage[_IN], x, x_row, 1, stage[_W], stage[_W_ROW], stage[_W_COL],
        y, y_row, ending, stage[_B], 0, scratch, one,
    )  # fmt: skip
    if stage[_B] == 0 and act != _NONE:
        _activate_in_place(act, y, y_row, rows, stage[_OUT], one)


@jit
def _loss_and_gradient(z, t, t_rows, order, first, scale, g, nll, sums):
    """nll = the losses of the rows of scores z; g = scale · (softmax(z) - t). Labels: see `mlp_train`."""
    n, classes = z.shape
    by_index, zero = t_rows.size == 0, zero_of(g)
    for r in range(n):  # the part of the loss that needs the scores, before g is overwritten
        m = row_max(z[r])
        for c in range(classes):
            g[r, c] = z[r, c] - m
        label = order[first + r] if order.size > 0 else first + r
        if by_index:
            nll[r] = -g[r, t[label]]
        else:
            loss = zero
            for c in range(classes):
                if t_rows[label, c] != zero:  # a class of probability 0 costs nothing, however impossible its score
                    loss -= t_rows[label, c] * g[r, c]
            nll[r] = loss
    exp_in_place(g.reshape(n * classes))
    for r in range(n):
        s = zero
        for c in range(classes):
            s += g[r, c]
        sums[r] = s
        label = order[first + r] if order.size > 0 else first + r
        if by_index:
            q = scale / s
            for c in range(classes):
                g[r, c] *= q
            g[r, t[label]] -= scale
        else:
            total = zero
            for c in range(classes):
                total += t_rows[label, c]
            for c in range(classes):
                g[r, c] = scale * (g[r, c] / s * total - t_rows[label, c])
            nll[r] += total * log(s)
    if by_index:
        for r in range(n):
            nll[r] += log(sums[r])


@jit
def _memory(table, work, n):
    """Where things lie in the workspace for a batch of n: addresses of outputs, gradients, gathered x; losses, sums."""
    last = table.shape[0] - 1
    outputs = n * (table[last, _BEFORE] + table[last, _WIDTH])
    x_width = _padded(table[0, _IN], work.itemsize)
    base, size, nll = _address(work), work.itemsize, 2 * outputs + n * x_width
    xs = base + 2 * outputs * size
    return base, base + outputs * size, xs, x_width, work[nll : nll + n], work[nll + n : nll + 2 * n]


@jit
def _rows_pass(engine, table, x, t, t_rows, order, first, work, n, part, parts, scratch):
    """Forward, loss and gradients of one share of the batch's rows."""
    r0, r1 = _share(n, part, parts), _share(n, part + 1, parts)
    rows, one, size = r1 - r0, one_of(x), x.itemsize
    ys, gs, xs, xs_row, nll, sums = _memory(table, work, n)
    a, a_row = _address(x) + r0 * x.shape[1] * size, x.shape[1]
    if order.size > 0:
        a, a_row = xs + r0 * xs_row * size, xs_row
        for r in range(rows):
            source = _address(x) + order[first + r0 + r] * x.shape[1] * size
            copy_bytes(a + r * a_row * size, source, x.shape[1] * size)
    last = table.shape[0] - 1
    for s in range(last + 1):
        stage = table[s]
        y, y_row = ys + (n * stage[_BEFORE] + r0 * stage[_WIDTH]) * size, stage[_WIDTH]
        _stage_forward(engine, stage, a, a_row, y, y_row, rows, scratch, one)
        a, a_row = y, y_row

    classes = table[last, _OUT]
    start = n * table[last, _BEFORE] + r0 * classes
    z = work[start : start + rows * classes].reshape(rows, classes)
    start += (gs - ys) // size
    dz = work[start : start + rows * classes].reshape(rows, classes)
    _loss_and_gradient(z, t, t_rows, order, first + r0, one / x.dtype.type(n), dz, nll[r0:r1], sums[r0:r1])
    if table[last, _ACT] != _NONE:
        _activation_gradient(table[last, _ACT], _address(dz), classes, a, a_row, rows, classes, one)
    for s in range(last, 0, -1):
        stage, below = table[s], table[s - 1]
        g, g_row = gs + (n * stage[_BEFORE] + r0 * stage[_WIDTH]) * size, stage[_WIDTH]
        at, row, act = (n * below[_BEFORE] + r0 * below[_WIDTH]) * size, below[_WIDTH], below[_ACT]
        if stage[_W] == 0:
            for r in range(rows):
                copy_bytes(gs + at + r * row * size, g + r * g_row * size, below[_OUT] * size)
            _activation_gradient(act, gs + at, row, ys + at, row, rows, below[_OUT], one)
        else:
            ending = RELU_GRADIENT if act == _RELU else SIGMOID_GRADIENT if act == _SIGMOID else STORE
            call(
                engine, rows, stage[_IN], stage[_OUT], g, g_row, 1, stage[_W], stage[_W_COL], stage[_W_ROW],
                gs + at, row, ending, ys + at, row, scratch, one,
            )  # fmt: skip


@jit
def _cost(stage, one):
    """What a row of a stage's weights costs, for an even division: columns, in whole vectors."""
    return 0 if stage[_W] == 0 else (stage[_OUT] + lanes(one) - 1) // lanes(one)


@jit
def _first_row(stage, cost, wanted):
    """The row of a stage's weights at which a share begins that `wanted` of the cost lies before."""
    if wanted <= 0 or cost == 0:
        return 0
    row = wanted // cost // _MIN_ROWS * _MIN_ROWS
    return stage[_IN] if row > stage[_IN] - _MIN_ROWS else row


@jit
def _sum_of_squares(a, count, one):
    s = 0.0
    for i in range(count):
        v = np.float64(load(a, i, one))
        s += v * v
    return s


@jit
def _move(p, p_row, p_col, grad, rows, columns, lr):
    """p <- p - lr · grad."""
    size = itemsize(lr)
    if p_col == 1 and p_row == columns:
        rows, columns = 1, rows * columns
    for i in range(rows):
        p_i, grad_i = p + i * p_row * size, grad + i * columns * size
        if p_col == 1:
            for j in range(columns):
                store(p_i, j, load(p_i, j, lr) - lr * load(grad_i, j, lr))
        else:
            for j in range(columns):
                store(p_i, j * p_col, load(p_i, j * p_col, lr) - lr * load(grad_i, j, lr))


@jit
def _scale(a, count, rate):
    for i in range(count):
        store(a, i, load(a, i, rate) * rate)


@jit
def _weights_pass(engine, table, x, order, work, squares, n, part, parts, differentiate, clip, rate, lr, scratch):
    """Gradients and update of one share of the weights.

    With clipping it is run twice: to differentiate, which leaves the squares of the gradients; and, when their sum is
    known, to scale them by `rate` and update.
    """
    one, size = one_of(x), x.itemsize
    ys, gs, xs, xs_row, _, _ = _memory(table, work, n)
    a, a_row = (xs, xs_row) if order.size > 0 else (_address(x), x.shape[1])
    total = 0
    for s in range(table.shape[0]):
        total += table[s, _IN] * _cost(table[s], one)
    begin, end = total * part // parts, total * (part + 1) // parts
    before, row_before = 0, 0  # of the cost, and of the rows of `squares`
    for s in range(table.shape[0]):
        stage = table[s]
        cost, columns = _cost(stage, one), stage[_OUT]
        i0, i1 = _first_row(stage, cost, begin - before), _first_row(stage, cost, end - before)
        if part == parts - 1:
            i1 = stage[_IN]
        g, g_row = gs + n * stage[_BEFORE] * size, stage[_WIDTH]
        if cost > 0 and i0 < i1:
            dW, rows = stage[_DW] + i0 * columns * size, i1 - i0
            owns_bias = i0 == 0 and stage[_B] != 0
            if differentiate:
                call(
                    engine, rows, columns, n, a + i0 * size, 1, a_row, g, g_row, 1,
                    dW, columns, STORE, 0, 0, scratch, one,
                )  # fmt: skip
                if owns_bias:  # by the same engine, as a row of ones times g
                    call(
                        engine, 1, columns, n, one_element(one), 0, 0, g, g_row, 1,
                        stage[_DB], columns, STORE, 0, 0, scratch, one,
                    )  # fmt: skip
                if clip:
                    for i in range(rows):
                        squares[row_before + i0 + i] = _sum_of_squares(dW + i * columns * size, columns, one)
                    if i0 == 0:
                        bias = _sum_of_squares(stage[_DB], columns, one) if owns_bias else 0.0
                        squares[row_before + stage[_IN]] = bias
            elif rate < one:
                _scale(dW, rows * columns, rate)
                if owns_bias:
                    _scale(stage[_DB], columns, rate)
            if not (differentiate and clip) and lr != 0:
                W = stage[_W] + i0 * stage[_W_ROW] * size
                _move(W, stage[_W_ROW], stage[_W_COL], dW, rows, columns, lr)
                if owns_bias:
                    _move(stage[_B], columns, 1, stage[_DB], 1, columns, lr)
        if cost > 0:
            row_before += stage[_IN] + 1
        before += stage[_IN] * cost
        a, a_row = ys + n * stage[_BEFORE] * size, stage[_WIDTH]


@jit
def _fits(t, t_rows, order, first, n, classes):
    """Whether the labels of a batch are in range, or finite."""
    good = True
    for r in range(first, first + n):
        label = order[r] if order.size > 0 else r
        if t_rows.size == 0:
            good &= (t[label] >= 0) & (t[label] < classes)
        else:
            for c in range(classes):
                good &= math.isfinite(t_rows[label, c])
    return good


def _train(engine, table, x, t, t_rows, order, n, work, scratch, squares, lr, max_norm, losses, threads):
    one = one_of(x)
    row_parts = max(1, min(threads, n // _MIN_ROWS))
    clip = max_norm > 0.0
    for batch in range(losses.size):
        if not _fits(t, t_rows, order, batch * n, n, table[table.shape[0] - 1, _OUT]):
            return batch
        rate = one
        for phase in range(3 if clip else 2):
            parts = row_parts if phase == 0 else threads
            for part in prange(parts):
                if phase == 0:
                    _rows_pass(
                        engine, table, x, t, t_rows, order, batch * n, work, n, part, parts,
                        _address(scratch[part]),
                    )  # fmt: skip
                else:
                    _weights_pass(
                        engine, table, x, order, work, squares, n, part, parts, phase == 1, clip, rate,
                        x.dtype.type(lr), _address(scratch[part]),
                    )  # fmt: skip
            if phase == 1 and clip:
                square = 0.0
                for i in range(squares.size):
                    square += squares[i]
                rate = min(one, x.dtype.type(max_norm / (math.sqrt(square) + 1e-6)))
        nll = _memory(table, work, n)[4]
        loss = 0.0
        for r in range(n):
            loss += nll[r]
        losses[batch] = loss / n
    return losses.size


_train_serial, _train_parallel = jit(_train), parallel_twin(_train)


def _predict(engine, table, x, work, scratch, out, probabilities, threads):
    n, one, size = x.shape[0], one_of(x), x.itemsize
    parts = max(1, min(threads, n // _MIN_ROWS))
    last, half = table.shape[0] - 1, work.shape[1] // 2 * size
    for part in prange(parts):
        r0, r1 = _share(n, part, parts), _share(n, part + 1, parts)
        blocks = (r1 - r0 + _PREDICT_ROWS - 1) // _PREDICT_ROWS
        buffer, part_scratch = _address(work[part]), _address(scratch[part])
        for block in range(blocks):
            i0, i1 = r0 + (r1 - r0) * block // blocks, r0 + (r1 - r0) * (block + 1) // blocks
            a, a_row = _address(x) + i0 * x.shape[1] * size, x.shape[1]
            for s in range(last + 1):
                stage = table[s]
                y, y_row = buffer + s % 2 * half, stage[_WIDTH]
                if s == last:
                    y = _address(out) + i0 * y_row * size
                _stage_forward(engine, stage, a, a_row, y, y_row, i1 - i0, part_scratch, one)
                a, a_row = y, y_row
            if probabilities:
                softmax_rows(out[i0:i1], out[i0:i1])


_predict_serial, _predict_parallel = jit(_predict), parallel_twin(_predict)


def _threads(work):
    """How many threads so many multiply-adds are worth."""
    return numba.get_num_threads() if work > PARALLEL_ABOVE else 1


def mlp_train(plan, workspace, x, t, t_rows, order, batch_size, lr, max_norm, losses):
    """Train on ``len(losses)`` batches; returns how many were done: it ends before one with a wrong label.

    plan, workspace: of `mlp_plan` and `mlp_workspace`. x (N, D) contiguous. t (N,) intp class indices, and t_rows
    (0, 0); or t (0,) and label rows t_rows (N, C). A label is wrong that is out of range or not finite. order: intp
    indices of the rows of x, batch by batch; or empty, and the N = batch_size rows are the one batch. lr: 0.0 for
    gradients only. max_norm: of all gradients together; 0.0 for no clipping. losses: float64.
    """
    threads = _threads(3 * plan.work * batch_size)
    train = _train_parallel if threads > 1 else _train_serial
    return train(plan.engine, plan.table, x, t, t_rows, order, batch_size, *workspace, lr, max_norm, losses, threads)


def mlp_predict(plan, workspace, x, probabilities, out):
    """out (N, C) = the scores of x (N, D), or their softmax. workspace: of `mlp_predict_workspace`."""
    work, scratch = workspace
    threads = _threads(plan.work * x.shape[0])
    (_predict_parallel if threads > 1 else _predict_serial)(
        plan.engine, plan.table, x, work, scratch, out, probabilities, threads
    )
