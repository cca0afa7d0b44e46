"""Prediction of one share of a batch's rows, a few at a time."""

import numpy as np
from numba import carray, types

from ._amx import BREADTH, pays_in_rows
from ._caches import round_up
from ._dtype import itemsize, one_of
from ._jit import c_function, once
from ._memory import address
from ._mlp_plan import AMX, ENGINE, IN, OUT, PREDICT_ROWS, WIDTH, WORK, WORK_BYTES, parts_of, scratch_of, share
from ._mlp_rows import stage_forward
from .softmax import softmax_rows


def _predict_pass(table, length, x, n, probabilities, part, parts, out):
    head, stages = parts_of(table, length)
    last = stages.shape[0] - 1
    scores = carray(out, (n, stages[last, OUT]))
    one, features, half = one_of(scores), stages[0, IN], head[WORK_BYTES] // 2
    size, scratch, buffer = itemsize(one), scratch_of(head, part), head[WORK] + part * head[WORK_BYTES]
    r0, r1 = share(n, part, parts), share(n, part + 1, parts)
    blocks = (r1 - r0 + PREDICT_ROWS - 1) // PREDICT_ROWS
    i1 = r0
    for block in range(blocks):
        # In whole tiles of the matrix unit.
        i0, i1 = i1, min(r1, r0 + round_up((r1 - r0) * (block + 1) // blocks, BREADTH))
        a, a_row = x + i0 * features * size, features
        for s in range(last + 1):
            stage = stages[s]
            y, y_row = buffer + s % 2 * half, stage[WIDTH]
            if s == last:
                y = address(scores) + i0 * y_row * size
            engine = head[ENGINE]
            if head[AMX] != 0 and pays_in_rows(n, stage[OUT], stage[IN]):
                engine = head[AMX]
            stage_forward(head, stage, engine, a, a_row, y, y_row, i1 - i0, 0, stage[OUT], scratch, one)
            a, a_row = y, y_row
        if probabilities != 0:
            softmax_rows(scores[i0:i1], scores[i0:i1])


@once
def compiled_predict_pass(dtype):
    """The function at whose ``address`` the scores of one share of a batch's rows are computed, or their softmax.

    table and its length; x, out: addresses.
    """
    real = {"f": types.float32, "d": types.float64}[np.dtype(dtype).char]
    signature = types.void(types.CPointer(types.int64), *[types.intp] * 6, types.CPointer(real))
    return c_function(signature, _predict_pass)
