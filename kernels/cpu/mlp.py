"""A whole multi-layer perceptron in one call: training steps, or scores. Sibling: kernels/ref/mlp.py.

A stage is y = act(x · W + b), or without b, or act alone. One training step, for a batch of N:
    by shares of rows:     y of all stages, the loss, and the gradients g of all stages back to the first
    by shares of weights:  dW = xᵀ · g, db = sum over rows of g, and the optimizer's update of W and b
Two parallel regions a step instead of two a layer, and more for large layers (_mlp_rows.py, _mlp_weights.py). How the
work is shared out changes no sum: results are bitwise the same for any number of threads. The network is a table of
numbers (_mlp_plan.py). float32 or float64; loss: mean cross-entropy of softmax, see softmax_with_loss.py.
"""

from numba import prange

from ._jit import jit, parallel_twin, run
from ._mlp_loss import labels_fit
from ._mlp_plan import (
    MIN_ROWS,
    OUT,
    PREDICT_ROWS,
    WIDTH,
    address,
    memory_of,
    mlp_plan,
    mlp_predict_workspace,
    mlp_workspace,
    share,
)
from ._mlp_rows import next_region, rows_pass, stage_forward, stops
from ._mlp_weights import weights_pass
from ._tile import one_of
from ._update import clipping_rate, sum_in_order
from .softmax import softmax_rows

__all__ = ["mlp_plan", "mlp_predict", "mlp_predict_workspace", "mlp_train", "mlp_workspace"]

# Multiply-adds from which waking the threads pays (measured: bench/RESULTS.md).
PARALLEL_ABOVE = 1_000_000


def _train(
    engine, update, rule, table, x, t, t_rows, order, n, work, scratch, squares, numbers, max_norm, losses, threads
):
    one = one_of(x)
    clip = max_norm > 0.0
    for batch in range(losses.size):
        if not labels_fit(t, t_rows, order, batch * n, n, table[table.shape[0] - 1, OUT]):
            return batch
        stop = 0
        while stop < stops(table):
            end, row_parts, column_parts = next_region(table, n, stop, threads, one)
            for part in prange(row_parts * column_parts):
                rows_pass(
                    engine, table, x, t, t_rows, order, batch * n, work, n, stop, end, part, row_parts, column_parts,
                    address(scratch[part]),
                )  # fmt: skip
            stop = end
        rate, of_batch = one, 0
        if numbers.size > 0:
            of_batch = address(numbers) + batch * numbers.shape[1] * x.itemsize
        for phase in range(2 if clip else 1):
            for part in prange(threads):
                weights_pass(
                    engine, update, rule, table, x, order, work, squares, n, part, threads, phase == 0, clip, rate,
                    of_batch, address(scratch[part]),
                )  # fmt: skip
            if phase == 0 and clip:
                rate = x.dtype.type(clipping_rate(squares, max_norm))
        losses[batch] = sum_in_order(memory_of(table, work, n)[4]) / n
    return losses.size


_train_serial, _train_parallel = jit(_train), parallel_twin(_train)


def _predict(engine, table, x, work, scratch, out, probabilities, threads):
    n, one, size = x.shape[0], one_of(x), x.itemsize
    parts = max(1, min(threads, n // MIN_ROWS))
    last, half = table.shape[0] - 1, work.shape[1] // 2 * size
    for part in prange(parts):
        r0, r1 = share(n, part, parts), share(n, part + 1, parts)
        blocks = (r1 - r0 + PREDICT_ROWS - 1) // PREDICT_ROWS
        buffer, part_scratch = address(work[part]), address(scratch[part])
        for block in range(blocks):
            i0, i1 = r0 + (r1 - r0) * block // blocks, r0 + (r1 - r0) * (block + 1) // blocks
            a, a_row = address(x) + i0 * x.shape[1] * size, x.shape[1]
            for s in range(last + 1):
                stage = table[s]
                y, y_row = buffer + s % 2 * half, stage[WIDTH]
                if s == last:
                    y = address(out) + i0 * y_row * size
                stage_forward(engine, stage, a, a_row, y, y_row, i1 - i0, 0, stage[OUT], part_scratch, one)
                a, a_row = y, y_row
            if probabilities:
                softmax_rows(out[i0:i1], out[i0:i1])


_predict_serial, _predict_parallel = jit(_predict), parallel_twin(_predict)


def mlp_train(plan, workspace, x, t, t_rows, order, batch_size, numbers, max_norm, losses):
    """Train on ``len(losses)`` batches; returns how many were done: it ends before one with a wrong label.

    plan, workspace: of `mlp_plan` and `mlp_workspace`. x (N, D) contiguous. t (N,) intp class indices, and t_rows
    (0, 0); or t (0,) and label rows t_rows (N, C). A label is wrong that is out of range or not finite. order: intp
    indices of the rows of x, batch by batch; or empty, and the N = batch_size rows are the one batch. numbers: a
    row for each batch, as for `optimizer_update`; or (0, 0) for gradients only. max_norm: of all gradients together;
    0.0 for no clipping. losses: float64.
    """
    args = (
        plan.engine, plan.update, plan.rule, plan.table, x, t, t_rows, order, batch_size, *workspace, numbers, max_norm,
        losses,
    )  # fmt: skip
    if 3 * plan.work * batch_size > PARALLEL_ABOVE:
        return run(_train_serial, _train_parallel, *args)
    return _train_serial(*args, 1)


def mlp_predict(plan, workspace, x, probabilities, out):
    """out (N, C) = the scores of x (N, D), or their softmax. workspace: of `mlp_predict_workspace`."""
    work, scratch = workspace
    args = (plan.engine, plan.table, x, work, scratch, out, probabilities)
    if plan.work * x.shape[0] > PARALLEL_ABOVE:
        run(_predict_serial, _predict_parallel, *args)
    else:
        _predict_serial(*args, 1)
