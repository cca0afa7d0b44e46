"""A network as a table of numbers, and the memory of its batches: what the passes of mlp.py share.

A row of the table is a stage, y = act(x · W + b); so one compiled function serves every depth and width.
"""

from typing import NamedTuple

import numba
import numpy as np

from ._gemm import SCRATCH_BYTES, compiled_product
from ._jit import jit
from ._tile import address
from ._update import compiled_update
from .optimizer import compiled_rule

# Columns of the table. Addresses are 0 where there is no such array; strides and sizes in elements.
IN, OUT, W_AT, W_ROW, W_COL, B_AT, DW_AT, DB_AT, ACT, WIDTH, BEFORE = range(11)
W_STATE, B_STATE = 11, 13  # of the optimizer: two each
_COLUMNS = 15
NONE, RELU, SIGMOID = range(3)
_ACTIVATIONS = {None: NONE, "relu": RELU, "sigmoid": SIGMOID}

MIN_ROWS = 4  # of a share: fewer would be summed in another order (see _gemm.py)
PREDICT_ROWS = 96  # at a time: their activations stay in the second-level cache


class Plan(NamedTuple):
    """A network as the compiled functions see it."""

    table: np.ndarray
    work: int  # multiply-adds a sample
    engine: int  # address of the matrix product
    update: int  # addresses of the update of parameters, and of the optimizer's rule for it
    rule: int


def mlp_plan(stages, rule="sgd", states=None):
    """Describe a network, and how it is trained, to the other functions.

    stages: (W, b, dW, db, activation) each, in order. W (D, F) of any strides, b (F,), dW and db like them but
    contiguous, or None; activation None, "relu" or "sigmoid". rule, and states in the order of the parameters: as for
    `optimizer_plan`. All arrays of one dtype. They must outlive the plan.
    """
    states = iter(states or ())
    weights = [W for W, *_ in stages if W is not None]
    size, features, before = weights[0].itemsize, weights[0].shape[0], 0
    table = np.zeros((len(stages), _COLUMNS), np.int64)
    for row, (W, b, dW, db, activation) in zip(table, stages, strict=True):
        row[IN] = features
        if W is not None:
            features = W.shape[1]
            row[W_AT], row[W_ROW], row[W_COL] = W.ctypes.data, W.strides[0] // size, W.strides[1] // size
            row[B_AT], row[DB_AT] = (0, 0) if b is None else (b.ctypes.data, db.ctypes.data)
            row[DW_AT] = dW.ctypes.data
            for column, p in ((W_STATE, W), (B_STATE, b)):
                if p is not None:
                    state = next(states, ())
                    row[column : column + len(state)] = [a.ctypes.data for a in state]
        row[OUT], row[ACT] = features, _ACTIVATIONS[activation]
        row[WIDTH], row[BEFORE] = padded(features, size), before
        before += row[WIDTH]
    table[-1, WIDTH] = features  # scores and their gradients lie row by row without gaps
    dtype = weights[0].dtype.char
    work = sum(W.size for W in weights)
    functions = compiled_product(dtype), compiled_update(dtype), compiled_rule(rule, dtype)
    return Plan(table, work, *(function.address for function in functions))


@jit
def padded(features, size):
    """Distance between rows: rows that lie multiples of 2 KB apart displace each other from the cache."""
    return features + 64 // size if features * size % 2048 == 0 else features


def mlp_workspace(plan, batch_size, dtype):
    """Memory in which `mlp_train` keeps a batch's activations and gradients, for batches up to batch_size."""
    table = plan.table
    per_sample = 2 * int(table[:, WIDTH].sum()) + int(padded(table[0, IN], np.dtype(dtype).itemsize)) + 2
    rows_of_weights = int(table[:, IN].sum()) + len(table)
    return np.empty(per_sample * batch_size, dtype), _scratch(), np.zeros(rows_of_weights)


def mlp_predict_workspace(plan, dtype):
    """Memory in which `mlp_predict` keeps the activations of a few rows a thread."""
    widest = int(plan.table[:, WIDTH].max())
    return np.empty((numba.config.NUMBA_NUM_THREADS, 2 * PREDICT_ROWS * widest), dtype), _scratch()


def _scratch():
    return np.empty((numba.config.NUMBA_NUM_THREADS, SCRATCH_BYTES), np.uint8)  # pages that nobody touches cost nothing


@jit
def share(length, part, parts):
    """Where the share of a part of `length` begins: at a multiple of MIN_ROWS, and never fewer before the end."""
    units = length // MIN_ROWS
    return length if part == parts else units * part // parts * MIN_ROWS


@jit
def memory_of(table, work, n):
    """Where things lie in the workspace for a batch of n: addresses of outputs, gradients, gathered x; losses, sums."""
    last = table.shape[0] - 1
    outputs = n * (table[last, BEFORE] + table[last, WIDTH])
    x_width = padded(table[0, IN], work.itemsize)
    base, size, nll = address(work), work.itemsize, 2 * outputs + n * x_width
    xs = base + 2 * outputs * size
    return base, base + outputs * size, xs, x_width, work[nll : nll + n], work[nll + n : nll + 2 * n]
