"""A whole multi-layer perceptron in one launch: training steps, or scores. See mlp.cu, and kernels/ref/mlp.py.

Made for networks whose weights a multiprocessor reads in some microseconds, of up to about 1 MB: there the time goes
into launches and waiting, of which a step has none and two. The network is a table of numbers, as on the CPU. All
arrays are on the device but the optimizer's numbers. float32 or float64.
"""

from typing import Any, NamedTuple

import cupy
import numpy as np

from ._launch import kernel, multiprocessors
from .optimizer import NUMBERS, RULES

# Columns of the table: as the struct Stage of mlp.cu.
IN, OUT, W_AT, W_ROW, W_COLUMN, B_AT, DW_AT, DB_AT, ACTIVATION, BEFORE, TASKS_BEFORE, W_STATES, B_STATES = (
    *range(12),
    13,
)
_COLUMNS = 15
_ACTIVATIONS = {None: 0, "relu": 1, "sigmoid": 2}

_THREADS = 512
_ROWS = 4  # of samples, or of weights, at a time


class Plan(NamedTuple):
    """A network as the kernels see it."""

    table: cupy.ndarray
    rule: int
    width: int  # of all stages together
    widest: int
    tasks: int  # tiles of weights
    kept: Any  # arrays of which the table has addresses


def mlp_plan(stages, rule="sgd", states=None, loss="softmax_with_loss", scale=1.0):
    """Describe a network, and how it is trained, to the other functions.

    stages: (W, b, dW, db, activation) each, in order. W (D, F) of any strides, b (F,), dW and db like them but
    contiguous, or None; activation None, "relu" or "sigmoid". rule, and states in the order of the parameters: as for
    `optimizer_plan`. All arrays of one dtype. There is no tanh, and no other loss.
    """
    for name in (loss, *(activation for *_, activation in stages)):
        if name in ("mean_squared_error", "tanh"):
            raise NotImplementedError(f"{name} is not part of the compiled step on a GPU")
    kept, states = (list(stages), states), iter(states or ())
    features, width, tasks = next(W.shape[0] for W, *_ in stages if W is not None), 0, 0
    table = np.zeros((len(stages), _COLUMNS), np.int64)
    for row, (W, b, dW, db, activation) in zip(table, stages, strict=True):
        row[[IN, ACTIVATION, BEFORE, TASKS_BEFORE]] = features, _ACTIVATIONS[activation], width, tasks
        if W is not None:
            features = W.shape[1]
            steps = (step // W.itemsize for step in W.strides)
            row[[W_AT, W_ROW, W_COLUMN, DW_AT]] = W.data.ptr, *steps, dW.data.ptr
            if b is not None:
                row[[B_AT, DB_AT]] = b.data.ptr, db.data.ptr
            for column, p in ((W_STATES, W), (B_STATES, b)):
                if p is not None:
                    state = next(states, ())
                    row[column : column + len(state)] = [a.data.ptr for a in state]
            tasks += -(-(W.shape[0] + (b is not None)) // _ROWS) * -(-features // 32)
        row[OUT] = features
        width += features
    return Plan(cupy.asarray(table), RULES.index(rule), width, int(table[:, OUT].max()), tasks, kept)


class Workspace(NamedTuple):
    """Memory for a batch, in which `mlp_train` finds outputs, gradients, and what is summed up."""

    y: cupy.ndarray
    g: cupy.ndarray
    losses: cupy.ndarray
    squares: cupy.ndarray


def mlp_workspace(plan, batch_size, dtype):
    """Memory in which `mlp_train` keeps a batch's activations and gradients, for batches up to batch_size."""
    y, g = (cupy.empty(plan.width * batch_size, dtype) for _ in range(2))
    return Workspace(y, g, cupy.empty(batch_size, dtype), cupy.empty(plan.tasks, cupy.float64))


def mlp_predict_workspace(plan, dtype, layers=()):
    """Memory in which `mlp_predict` keeps the activations of a few rows for each block."""
    return cupy.empty((4 * multiprocessors(), 2 * _ROWS * plan.widest), dtype)


def _launch(name, dtype, blocks, args):
    kernel("mlp", name, scalar=dtype)((blocks,), (_THREADS,), args, shared_mem=_ROWS * _THREADS * dtype.itemsize)


def mlp_train(plan, workspace, x, t, t_rows, order, batch_size, numbers, max_norm, losses):
    """Train on ``len(losses)`` batches, but for those from the first with a wrong label on: their losses are NaN.

    Returns how many were asked for: nothing waits for the GPU. plan, workspace: of `mlp_plan` and `mlp_workspace`.
    x (N, D) contiguous. t (N,) intp class indices, and t_rows (0, 0); or t (0,) and label rows t_rows (N, C). A label
    is wrong that is out of range or not finite. order: intp indices of the rows of x, batch by batch; or empty, and the
    N = batch_size rows are the one batch. numbers: of NumPy, as for `optimizer_update`, a row for each batch or one for
    all; or (0, 0) for gradients only. max_norm: of all gradients together; 0.0 for no clipping. losses: float64.
    """
    optional = (a if a.size else 0 for a in (t, t_rows, order))
    update, of_each = numbers.size > 0, len(numbers) > 1
    of_all = numbers[0] if len(numbers) == 1 else numbers[:0].ravel()  # go along with the launch
    of_all = (*of_all, *[x.dtype.type(0)] * (NUMBERS - len(of_all)))
    by = update, cupy.asarray(numbers) if of_each else 0, numbers.shape[1], *of_all
    how = batch_size, len(losses), plan.rule, *by, float(max_norm)
    arguments = (plan.table, len(plan.table), x, *optional, *how, *workspace, plan.tasks, losses)
    _launch("mlp_train", x.dtype, multiprocessors(), arguments)
    return len(losses)


def mlp_predict(plan, workspace, x, probabilities, out):
    """out (N, C) = the scores of x (N, D), or their softmax. workspace: of `mlp_predict_workspace`."""
    blocks = min(len(workspace), -(-len(x) // _ROWS))
    arguments = (plan.table, len(plan.table), x, len(x), bool(probabilities), workspace, plan.widest, out)
    _launch("mlp_predict", x.dtype, blocks, arguments)
