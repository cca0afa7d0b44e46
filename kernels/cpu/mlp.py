"""A whole multi-layer perceptron in one call: training steps, or scores. Sibling: kernels/ref/mlp.py.

A stage is y = act(x · W + b), or without b, or act alone. One training step, for a batch of N:
    by shares of rows:     y of all stages, the loss, and the gradients g of all stages back to the first
    by shares of weights:  dW = xᵀ · g, db = sum over rows of g, and the optimizer's update of W and b
Two parallel regions a step instead of two a layer, and more for large layers (_mlp_rows.py, _mlp_weights.py). How the
work is shared out changes no sum: results are bitwise the same for any number of threads. A small network has a way of
its own to the gradients (_mlp_small.py). The network is a table of numbers (_mlp_plan.py). float32 or float64; losses:
see softmax_with_loss.py and mean_squared_error.py.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numba
import numpy as np
from numba import carray, types

from .._threads import limit
from ._amx import compiled_amx_product, pays, pays_in_rows
from ._caches import LINE_BYTES
from ._dtype import itemsize, one_of
from ._gemm import SCRATCH_BYTES, compiled_product
from ._jit import c_function, entry, once
from ._math import in_dtype_of
from ._matrices import MIN_ROWS
from ._memory import address, call, load
from ._mlp_activation import compiled_activate, compiled_activation_gradient
from ._mlp_at_once import prediction_at_once, step_at_once
from ._mlp_loss import labels_fit
from ._mlp_plan import (
    ACTIVATE,
    AMX,
    CROSS_ENTROPY,
    DONE,
    ENGINE,
    GRADIENT,
    IN,
    LOSS,
    OUT,
    PREDICT_PASS,
    PREDICT_ROWS,
    ROWS_PASS,
    SCALE,
    SCRATCH,
    SMALL_ROWS,
    SMALL_STEP,
    W_AT,
    W_COL,
    W_ROW,
    WEIGHTS_PASS,
    WIDTH,
    WORK,
    WORK_BYTES,
    address_or_0,
    memory_of,
    mlp_plan,
    parts_of,
)
from ._mlp_predict import compiled_predict_pass
from ._mlp_rows import compiled_rows_pass, next_region, stops
from ._mlp_small import compiled_small_step, filled_up, is_small
from ._mlp_weights import compiled_weights_pass
from ._parts import in_parts
from ._reduce import wide_sum
from ._update import clipping_rate
from ._workers import launch_workers

__all__ = ["mlp_plan", "mlp_predict", "mlp_predict_workspace", "mlp_train", "mlp_workspace"]

# Multiply-adds from which sharing out a step pays, which has several parallel regions, and a prediction (measured:
# bench/RESULTS.md).
PARALLEL_ABOVE = 1_000_000
PREDICT_PARALLEL_ABOVE = 300_000


class Workspace(NamedTuple):
    """A plan's table, completed by the addresses of the passes and of memory for them."""

    table: np.ndarray
    squares: np.ndarray  # the sum of them of each row of the gradients, for clipping
    memory: tuple[Any, ...]  # lives as long as the table
    at_once: Callable  # a step, or a prediction: see _mlp_at_once.py


def mlp_workspace(plan, batch_size, dtype):
    """Memory in which `mlp_train` keeps a batch's activations and gradients, for batches up to batch_size."""
    dtype, stages = np.dtype(dtype), plan.table[1:]
    line = LINE_BYTES // dtype.itemsize
    per_sample = 2 * int(stages[:, WIDTH].sum()) + 2 + int(stages[0, IN]) + int(stages[-1, OUT]) + 1 + 4 * line
    squares = np.zeros(int(stages[:, IN].sum()) + len(stages))
    train, alone_rows = _compiled_train(dtype.char).address, PARALLEL_ABOVE // (3 * plan.work)
    functions, small_rows = {GRADIENT: compiled_activation_gradient(dtype.char)}, 0
    if is_small(plan, dtype):
        functions[SMALL_STEP], small_rows = compiled_small_step(dtype.char), alone_rows
    if batch_size > small_rows:
        functions[ENGINE] = compiled_product(dtype.char)
        functions[ROWS_PASS] = compiled_rows_pass(dtype.char)
        functions[WEIGHTS_PASS] = compiled_weights_pass(dtype.char)
    samples = batch_size + (line if small_rows else 0)  # to fill up the last vector
    sizes = [(batch_size, n, d) for d, n in stages[:, [IN, OUT]].tolist()]
    multiplies_much = any(pays(m, n, d) or pays(m, d, n) or pays(d, n, m) for m, n, d in sizes)
    table, memory = _memory(plan, functions, np.empty(per_sample * samples + line, dtype), multiplies_much)
    table[0, SMALL_ROWS] = small_rows
    at_once = step_at_once(train, table, squares, dtype, alone_rows, batch_size)
    return Workspace(table, squares, memory, at_once)


def mlp_predict_workspace(plan, dtype, layers=()):
    """Memory in which `mlp_predict`, called from this thread, keeps the activations of a few rows a thread.

    layers: objects whose ``params`` are the plan's W and b. Once they are others, the workspace's `at_once` does
    nothing; nor does it in other threads.
    """
    dtype, widest = np.dtype(dtype), int(plan.table[1:, WIDTH].max())
    threads, line = numba.config.NUMBA_NUM_THREADS, LINE_BYTES // dtype.itemsize
    # It does not begin with a page: a masked vector that reaches into one before it, which may be no memory, takes as
    # long as a hundred others (_row_tile.py; one sample of 784-50-100-10 3.8 µs instead of 2.8).
    work = np.empty(line + threads * 2 * PREDICT_ROWS * widest, dtype)[line:].reshape(threads, -1)
    functions = {ENGINE: compiled_product(dtype.char), PREDICT_PASS: compiled_predict_pass(dtype.char)}
    large = 1 << 20  # a batch as large as any
    multiplies_much = any(pays_in_rows(large, n, d) for d, n in plan.table[1:, [IN, OUT]].tolist())
    table, memory = _memory(plan, functions, work, multiplies_much)
    predict, alone_rows = _compiled_predict().address, PREDICT_PARALLEL_ABOVE // plan.work
    watched = [(layer, params[0], params[-1]) for layer, params in zip(layers, plan.params, strict=False)]
    at_once, kept = prediction_at_once(predict, table, dtype, alone_rows, watched)
    return Workspace(table, np.empty(0), (*memory, kept), at_once)


def _memory(plan, functions, work, multiplies_much):
    scratch = np.empty((numba.config.NUMBA_NUM_THREADS, SCRATCH_BYTES), np.uint8)  # untouched pages cost nothing
    table = plan.table.copy()
    table[0, [WORK, SCRATCH, WORK_BYTES]] = work.ctypes.data, scratch.ctypes.data, work.strides[0]
    table[0, ACTIVATE] = compiled_activate(work.dtype.char).address
    for column, function in functions.items():
        table[0, column] = function.address
    is_plain = np.all((table[1:, W_AT] == 0) | (table[1:, W_ROW] == 1) | (table[1:, W_COL] == 1))
    if multiplies_much and is_plain:
        amx = compiled_amx_product(work.dtype.char)
        table[0, AMX] = amx.address if amx else 0
    return table, (work, scratch, plan)


def _train(
    pointer, length, squares, x, t, t_rows, order, n, numbers, batches_of_numbers, columns, max_norm, losses, batches,
    threads,
):  # fmt: skip
    """Arguments as of `mlp_train`, but addresses (0 where there is no such array) and counts, and `threads`."""
    head, stages = parts_of(pointer, length)
    table, count = address(head), 0
    for s in range(stages.shape[0]):
        count += stages[s, IN] + 1
    squares, numbers = carray(squares, (count,)), carray(numbers, (batches_of_numbers, columns))
    one, classes, clip = one_of(numbers), stages[stages.shape[0] - 1, OUT], max_norm > 0.0
    has_labels, loss_scale = head[LOSS] == CROSS_ENTROPY, load(table, SCALE, 0.0)
    rows_pass, weights_pass, scale = head[ROWS_PASS], head[WEIGHTS_PASS], in_dtype_of(one, loss_scale / n)
    squares_at, numbers_at, row_bytes = address(squares), address(numbers), columns * itemsize(one)
    for batch in range(batches):
        head[DONE] = batch
        first, stop = batch * n, 0
        if has_labels and not labels_fit(t, t_rows, order, first, n, classes, one):
            return
        rate, of_batch = one, 0
        if batches_of_numbers > 0:
            of_batch = numbers_at + min(batch, batches_of_numbers - 1) * row_bytes
        samples, phases = n, 2 if clip else 1
        if n <= head[SMALL_ROWS]:
            call(head[SMALL_STEP], table, length, x, t, t_rows, order, first, n, of_batch, max_norm, scale)
            samples, stop, phases = filled_up(n, one), stops(stages), 0
        while stop < stops(stages):
            end, row_parts, column_parts = next_region(stages, n, stop, threads, one)
            in_parts(
                threads, row_parts * column_parts, rows_pass, (table, length, x, t, t_rows, order, first, n, stop, end),
                (row_parts, column_parts, scale),
            )  # fmt: skip
            stop = end
        for phase in range(phases):
            differentiate = np.intp(phase == 0)
            in_parts(
                threads, threads, weights_pass, (table, length, x, order, squares_at, n),
                (threads, differentiate, np.intp(clip), of_batch, rate),
            )  # fmt: skip
            if phase == 0 and clip:
                rate = in_dtype_of(one, clipping_rate(squares, max_norm))
        losses[batch] = loss_scale * wide_sum(memory_of(head, stages, samples, one)[2], n, one) / n
    head[DONE] = batches


@once
def _compiled_train(dtype):
    real, doubles = types.float32 if dtype == "f" else types.float64, types.CPointer(types.float64)
    count = types.intp
    launch_workers()
    arguments = [types.CPointer(types.int64), count, doubles, *[count] * 5, types.CPointer(real), count, count]
    return c_function(types.void(*arguments, types.float64, doubles, count, count), _train)


@entry
def _call_train(function, table, squares, x, t, t_rows, order, n, numbers, max_norm, losses, threads):
    call(
        function, address(table), table.shape[0], address(squares), address(x), address_or_0(t), address_or_0(t_rows),
        address_or_0(order), n, address(numbers), numbers.shape[0], numbers.shape[1], max_norm, address(losses),
        losses.size, threads,
    )  # fmt: skip
    return table[0, DONE]


def _predict(pointer, length, x, n, probabilities, out, threads):
    head, _ = parts_of(pointer, length)
    table, predict_pass, parts = address(head), head[PREDICT_PASS], max(1, min(threads, n // MIN_ROWS))
    in_parts(threads, parts, predict_pass, (table, length, x, n, probabilities), (parts, out))


@once
def _compiled_predict():
    launch_workers()
    return c_function(types.void(types.CPointer(types.int64), *[types.intp] * 6), _predict)


@entry
def _call_predict(function, table, x, probabilities, out, threads):
    call(
        function, address(table), table.shape[0], address(x), x.shape[0], np.intp(probabilities), address(out), threads
    )


def mlp_train(plan, workspace, x, t, t_rows, order, batch_size, numbers, max_norm, losses):
    """Train on ``len(losses)`` batches; returns how many were done: it ends before one with a wrong label.

    plan, workspace: of `mlp_plan` and `mlp_workspace`. x (N, D) contiguous. t (N,) intp class indices, and t_rows
    (0, 0); or t (0,) and label rows, or targets, t_rows (N, C). A label is wrong that is out of range or not finite,
    a target never. order: intp indices of the rows of x, batch by batch; or empty, and the N = batch_size rows are the
    one batch. numbers: as for `optimizer_update`, a row for each batch or one for all; or (0, 0) for gradients only.
    max_norm: of all gradients together; 0.0 for no clipping. losses: float64.
    """
    if order.size == 0:
        loss = workspace.at_once(x, t if t.size else t_rows, numbers, max_norm)
        if loss is not False:
            losses[0] = loss
            return 1
    train = _compiled_train(x.dtype.char).address
    threads = limit.threads if 3 * plan.work * batch_size > PARALLEL_ABOVE else 1
    return _call_train(train, *workspace[:2], x, t, t_rows, order, batch_size, numbers, max_norm, losses, threads)


def mlp_predict(plan, workspace, x, probabilities, out):
    """out (N, C) = the scores of x (N, D), or their softmax. workspace: of `mlp_predict_workspace`."""
    if workspace.at_once(x, out, bool(probabilities)):
        return
    threads = limit.threads if plan.work * len(x) > PREDICT_PARALLEL_ABOVE else 1
    _call_predict(_compiled_predict().address, workspace.table, x, probabilities, out, threads)
