"""A whole multi-layer perceptron in one call: training steps, or scores. Sibling: kernels/ref/mlp.py.

A stage is y = act(x · W + b), or without b, or act alone. One training step, for a batch of N:
    by shares of rows:     y of all stages, the loss, and the gradients g of all stages back to the first
    by shares of weights:  dW = xᵀ · g, db = sum over rows of g, and the optimizer's update of W and b
Two parallel regions a step instead of two a layer, and more for large layers (_mlp_rows.py, _mlp_weights.py). How the
work is shared out changes no sum: results are bitwise the same for any number of threads. The network is a table of
numbers (_mlp_plan.py). float32 or float64; loss: mean cross-entropy of softmax, see softmax_with_loss.py.
"""

import functools
from collections.abc import Callable
from typing import NamedTuple

import numba
import numpy as np
from numba import carray, prange, types

from ._gemm import SCRATCH_BYTES
from ._jit import c_function, jit, parallel_twin, run
from ._mlp_at_once import prediction_at_once, step_at_once
from ._mlp_loss import labels_fit, sum_in_order
from ._mlp_plan import (
    COLUMNS,
    IN,
    MIN_ROWS,
    OUT,
    PREDICT_PASS,
    PREDICT_ROWS,
    ROWS_PASS,
    SCRATCH,
    WEIGHTS_PASS,
    WIDTH,
    WORK,
    WORK_BYTES,
    address_or_0,
    memory_of,
    mlp_plan,
    padded,
)
from ._mlp_predict import compiled_predict_pass
from ._mlp_rows import compiled_rows_pass, next_region, stops
from ._mlp_weights import compiled_weights_pass
from ._tile import address, call, one_of
from ._update import clipping_rate

__all__ = ["mlp_plan", "mlp_predict", "mlp_predict_workspace", "mlp_train", "mlp_workspace"]

# Multiply-adds from which waking the threads pays (measured: bench/RESULTS.md).
PARALLEL_ABOVE = 1_000_000


class Workspace(NamedTuple):
    """A plan's table, completed by the addresses of the passes and of memory for them."""

    table: np.ndarray
    squares: np.ndarray  # the sum of them of each row of the gradients, for clipping
    memory: tuple[np.ndarray, ...]  # lives as long as the table
    at_once: Callable  # a step, or prediction, of few samples: see _mlp_at_once.py


def mlp_workspace(plan, batch_size, dtype):
    """Memory in which `mlp_train` keeps a batch's activations and gradients, for batches up to batch_size."""
    dtype, stages = np.dtype(dtype), plan.table[1:]
    per_sample = 2 * int(stages[:, WIDTH].sum()) + int(padded(stages[0, IN], dtype.itemsize)) + 2
    squares = np.zeros(int(stages[:, IN].sum()) + len(stages))
    functions = {ROWS_PASS: compiled_rows_pass(dtype.char), WEIGHTS_PASS: compiled_weights_pass(dtype.char)}
    table, memory = _memory(plan, functions, np.empty(per_sample * batch_size, dtype))
    most_rows = min(batch_size, PARALLEL_ABOVE // (3 * plan.work))
    at_once = step_at_once(_compiled_step(dtype.char).address, table, squares, dtype, most_rows)
    return Workspace(table, squares, memory, at_once)


def mlp_predict_workspace(plan, dtype):
    """Memory in which `mlp_predict` keeps the activations of a few rows a thread."""
    dtype, widest = np.dtype(dtype), int(plan.table[1:, WIDTH].max())
    work = np.empty((numba.config.NUMBA_NUM_THREADS, 2 * PREDICT_ROWS * widest), dtype)
    table, memory = _memory(plan, {PREDICT_PASS: compiled_predict_pass(dtype.char)}, work)
    return Workspace(table, np.empty(0), memory, prediction_at_once(table, dtype, PARALLEL_ABOVE // plan.work))


def _memory(plan, functions, work):
    scratch = np.empty((numba.config.NUMBA_NUM_THREADS, SCRATCH_BYTES), np.uint8)  # untouched pages cost nothing
    table = plan.table.copy()
    table[0, [WORK, SCRATCH, WORK_BYTES]] = work.ctypes.data, scratch.ctypes.data, work.strides[0]
    for column, function in functions.items():
        table[0, column] = function.address
    return table, (work, scratch)


def _train(table, squares, x, t, t_rows, order, n, numbers, max_norm, losses, threads):
    one, length, head, stages = one_of(x), table.shape[0], table[0], table[1:]
    clip = max_norm > 0.0
    t_at, t_rows_at, order_at = address_or_0(t), address_or_0(t_rows), address_or_0(order)
    for batch in range(losses.size):
        if not labels_fit(t, t_rows, order, batch * n, n, stages[stages.shape[0] - 1, OUT]):
            return batch
        stop = 0
        while stop < stops(stages):
            end, row_parts, column_parts = next_region(stages, n, stop, threads, one)
            for part in prange(row_parts * column_parts):
                call(
                    head[ROWS_PASS], address(table), length, address(x), t_at, t_rows_at, order_at, batch * n, n,
                    stop, end, np.intp(part), row_parts, column_parts, one / x.dtype.type(n),
                )  # fmt: skip
            stop = end
        rate, of_batch = one, 0
        if numbers.size > 0:
            of_batch = address(numbers) + min(batch, numbers.shape[0] - 1) * numbers.shape[1] * x.itemsize
        for phase in range(2 if clip else 1):
            for part in prange(threads):
                call(
                    head[WEIGHTS_PASS], address(table), length, address(x), order_at, address(squares), n,
                    np.intp(part), threads, np.intp(phase == 0), np.intp(clip), of_batch, rate,
                )  # fmt: skip
            if phase == 0 and clip:
                rate = x.dtype.type(clipping_rate(squares, max_norm))
        losses[batch] = sum_in_order(memory_of(head, stages, n, one)[4], n, one) / n
    return losses.size


_train_serial, _train_parallel = jit(_train), parallel_twin(_train)


def _step(table, length, squares, x, n, t, t_rows, indices, numbers, columns, max_norm, loss_and_done):
    table, labels = carray(table, (length, COLUMNS)), n - indices
    rows = length - 1
    for s in range(1, length):
        rows += table[s, IN]
    loss_and_done[1] = _train_serial(
        table, carray(squares, (rows,)), carray(x, (n, table[1, IN])), carray(t, (indices,)),
        carray(t_rows, (labels, table[length - 1, OUT])), carray(t, (0,)), n, carray(numbers, (1, columns)), max_norm,
        carray(loss_and_done, (1,)), 1,
    )  # fmt: skip


@functools.cache
def _compiled_step(dtype):
    """The function at whose ``address`` one step is done; t and t_rows are both the address of the labels."""
    real, integers, count = types.float32 if dtype == "f" else types.float64, types.CPointer(types.int64), types.intp
    reals, doubles = types.CPointer(real), types.CPointer(types.float64)
    arguments = integers, count, doubles, reals, count, integers, reals, count, reals, count, types.float64, doubles
    return c_function(types.void(*arguments), _step)


def _predict(table, x, probabilities, out, threads):
    n = x.shape[0]
    parts = max(1, min(threads, n // MIN_ROWS))
    for part in prange(parts):
        call(
            table[0, PREDICT_PASS], address(table), table.shape[0], address(x), n, np.intp(probabilities),
            np.intp(part), parts, address(out),
        )  # fmt: skip


_predict_serial, _predict_parallel = jit(_predict), parallel_twin(_predict)


def mlp_train(plan, workspace, x, t, t_rows, order, batch_size, numbers, max_norm, losses):
    """Train on ``len(losses)`` batches; returns how many were done: it ends before one with a wrong label.

    plan, workspace: of `mlp_plan` and `mlp_workspace`. x (N, D) contiguous. t (N,) intp class indices, and t_rows
    (0, 0); or t (0,) and label rows t_rows (N, C). A label is wrong that is out of range or not finite. order: intp
    indices of the rows of x, batch by batch; or empty, and the N = batch_size rows are the one batch. numbers: as for
    `optimizer_update`, a row for each batch or one for all; or (0, 0) for gradients only. max_norm: of all gradients
    together; 0.0 for no clipping. losses: float64.
    """
    table, squares = workspace[:2]
    if 3 * plan.work * batch_size <= PARALLEL_ABOVE:
        return _train_serial(table, squares, x, t, t_rows, order, batch_size, numbers, max_norm, losses, 1)
    return run(
        _train_serial, _train_parallel, table, squares, x, t, t_rows, order, batch_size, numbers, max_norm, losses
    )


def mlp_predict(plan, workspace, x, probabilities, out):
    """out (N, C) = the scores of x (N, D), or their softmax. workspace: of `mlp_predict_workspace`."""
    if plan.work * len(x) <= PARALLEL_ABOVE:
        _predict_serial(workspace.table, x, probabilities, out, 1)
    else:
        run(_predict_serial, _predict_parallel, workspace.table, x, probabilities, out)
