"""A network as a table of numbers, and the memory of its batches: what the passes of mlp.py share.

The table's first row holds addresses of functions and of memory; each other row is a stage, y = act(x · W + b). So one
compiled function serves every depth and width, and one argument says it all: each costs a call some 40 ns.
"""

from typing import Any, NamedTuple

import numpy as np
from numba import carray

from ._amx import pays
from ._caches import LINE_BYTES, odd_lines, round_up
from ._dtype import itemsize, lanes
from ._gemm import SCRATCH_BYTES
from ._jit import jit
from ._memory import address
from ._update import compiled_update
from .optimizer import compiled_rule

# Columns of the table's first row: addresses; bytes of memory a thread; how many steps were done; the loss, what it is
# multiplied by (a float64); addresses again, AMX 0 where it is not used; the samples up to which SMALL_STEP serves.
ENGINE, UPDATE, RULE, ROWS_PASS, WEIGHTS_PASS, PREDICT_PASS, WORK, SCRATCH, WORK_BYTES, DONE = range(10)
LOSS, SCALE, ACTIVATE, GRADIENT, AMX, SMALL_STEP, SMALL_ROWS = range(10, 17)
# Columns of the others. Addresses are 0 where there is no such array; strides and sizes in elements.
IN, OUT, W_AT, W_ROW, W_COL, B_AT, DW_AT, DB_AT, ACT, WIDTH, BEFORE = range(11)
W_STATE, B_STATE = 11, 13  # of the optimizer: two each
COLUMNS = 17
NONE, RELU, SIGMOID, TANH = range(4)
_ACTIVATIONS = {None: NONE, "relu": RELU, "sigmoid": SIGMOID, "tanh": TANH}
CROSS_ENTROPY, SQUARED_ERROR = range(2)
_LOSSES = {"softmax_with_loss": CROSS_ENTROPY, "mean_squared_error": SQUARED_ERROR}

PREDICT_ROWS = 448  # at a time: their activations stay in the second-level cache
# Weights of a stage from which threads share out columns, and features of x from which they share out those (measured:
# bench/RESULTS.md).
SHARE_COLUMNS_FROM, SHARE_FEATURES_FROM = 1 << 18, 256


class Plan(NamedTuple):
    """A network as the compiled functions see it."""

    table: np.ndarray
    work: int  # multiply-adds a sample
    params: list[tuple[Any, ...]]  # W, or W and b, of each product
    kept: Any  # arrays of which the table has addresses


def mlp_plan(stages, rule="sgd", states=None, loss="softmax_with_loss", scale=1.0):
    """Describe a network, and how it is trained, to the other functions.

    stages: (W, b, dW, db, activation) each, in order. W (D, F) of any strides, b (F,), dW and db like them but
    contiguous, or None; activation None, "relu", "sigmoid" or "tanh". rule, and states in the order of the parameters:
    as for `optimizer_plan`. loss: that, or "mean_squared_error", times scale. All arrays of one dtype.
    """
    kept, states = (list(stages), states), iter(states or ())
    weights = [W for W, *_ in stages if W is not None]
    size, features, before = weights[0].itemsize, weights[0].shape[0], 0
    table = np.zeros((1 + len(stages), COLUMNS), np.int64)
    for row, (W, b, dW, db, activation) in zip(table[1:], stages, strict=True):
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
    table[0, [UPDATE, RULE]] = compiled_update(dtype).address, compiled_rule(rule, dtype).address
    table[0, LOSS] = _LOSSES[loss]
    table[0].view(np.float64)[SCALE] = scale / features if loss == "mean_squared_error" else scale
    params = [(W,) if b is None else (W, b) for W, b, *_ in stages if W is not None]
    return Plan(table, work, params, kept)


@jit
def engine_for(head, m, n, depth):
    """The address of the function for a product of these sizes, of a whole batch."""
    return head[AMX] if head[AMX] != 0 and pays(m, n, depth) else head[ENGINE]


@jit
def padded(features, size):
    """Distance between rows: rows that lie multiples of 2 KB apart displace each other from the cache."""
    return features + LINE_BYTES // size if features * size % 2048 == 0 else features


@jit
def parts_of(pointer, length):
    """The table at an address: its first row, and the stages."""
    table = carray(pointer, (length, COLUMNS))
    return table[0], table[1:]


@jit
def address_or_0(a):
    """Of an array that may be absent, which is without elements."""
    return address(a) if a.size > 0 else 0


@jit
def share(rows, part, parts):
    """Where the share of a part begins. At most rows // MIN_ROWS parts: fewer rows are summed in another order."""
    return rows * part // parts


@jit
def halves(stages):
    """How many parts there are of the features of x, which the first product sums up apart; see _mlp_rows.py."""
    features, weights = stages[0, IN], stages[0, IN] * stages[0, OUT]
    return 2 if stages[0, W_AT] != 0 and features >= SHARE_FEATURES_FROM and weights < SHARE_COLUMNS_FROM else 1


@jit
def half_of_x(stages, half, x, order, gathered, n, one):
    """The first and last feature of a half, and where it lies: address, and distance between rows."""
    features, size = stages[0, IN], itemsize(one)
    middle = features if halves(stages) == 1 else round_up(features // 2, lanes(one))
    begin, end = (0, middle) if half == 0 else (middle, features)
    if order == 0:
        return begin, end, x + begin * size, features
    line = LINE_BYTES // size  # where vectors of gathered x begin
    return begin, end, gathered + half * n * odd_lines(middle, line) * size, odd_lines(end - begin, line)


@jit
def memory_of(head, stages, n, one):
    """Where things lie in the workspace for a batch of n: addresses of outputs, gradients, losses, sums; gathered x."""
    last, work, size = stages[stages.shape[0] - 1], head[WORK], itemsize(one)
    outputs = n * (last[BEFORE] + last[WIDTH]) * size
    losses = work + 2 * outputs
    return work, work + outputs, losses, losses + n * size, round_up(losses + 2 * n * size, LINE_BYTES)


@jit
def scratch_of(head, part):
    return head[SCRATCH] + part * SCRATCH_BYTES
