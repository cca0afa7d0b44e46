"""Optimizers: one step of many parameters in one launch, or two with clipping. Formulas: kernels/ref/optimizer.py.

Parameters, gradients and states (v, h, or m and v) are contiguous, all of one dtype, float32 or float64, on the device;
numbers, of that dtype, on the host, where the optimizer has them: they go along with the launch. Or they are on the
device, and those are taken that are there when the kernel runs.
"""

from typing import NamedTuple

import cupy
import numpy as np

from ._launch import kernel

RULES = ["sgd", "momentum", "nesterov", "adagrad", "rmsprop", "adam"]  # in the order of _rules.cuh
NUMBERS = 6  # at most: decay, keep and those of the rule
_CHUNK = 4096  # elements, as in optimizer.cu
_THREADS = 256
_MOST_SUMS = 1024  # of squares, each of a block


class OptimizerPlan(NamedTuple):
    """What an optimizer works on, as the kernels see it."""

    rule: int
    chunks: tuple  # the parameters' table, the table's row of each chunk of elements, the number of chunks
    sums: cupy.ndarray
    ended: cupy.ndarray
    rate: cupy.ndarray  # for the gradients


def optimizer_plan(rule, params, grads, states):
    """Describe to `optimizer_update` what it works on.

    rule: "sgd", "momentum", "nesterov", "adagrad", "rmsprop" or "adam". params, grads: arrays of equal shapes, none of
    which share memory. states: for each parameter the arrays of its state. All of them must outlive the plan.
    """
    chunks = [-(-param.size // _CHUNK) for param in params]
    before = np.cumsum([0, *chunks])
    addresses = [
        [a.data.ptr for a in (param, grad, *state)] + [0] * (2 - len(state))
        for param, grad, state in zip(params, grads, states, strict=True)
    ]
    table = [
        [*row, param.size, first] for row, param, first in zip(addresses, params, before[:-1].tolist(), strict=True)
    ]
    row_of = np.repeat(np.arange(len(params), dtype=np.int32), chunks)
    return OptimizerPlan(
        RULES.index(rule),
        (cupy.asarray(np.array(table, np.int64)), cupy.asarray(row_of), len(row_of)),
        cupy.empty(_MOST_SUMS, cupy.float64),
        cupy.zeros(1, cupy.int32),
        cupy.empty(1, params[0].dtype),
    )


def optimizer_update(plan, numbers, max_norm):
    """One step of all parameters, and of their states; gradients change only where they are clipped.

    numbers: 1-D, of NumPy or CuPy. max_norm: of all gradients together; 0.0 for no clipping.
    """
    dtype, count = plan.rate.dtype, plan.chunks[2]
    if count == 0:
        return
    if max_norm > 0:
        grid = (min(count, _MOST_SUMS),)
        arguments = (*plan.chunks, float(max_norm), plan.sums, plan.ended, plan.rate)
        kernel("optimizer", "clipping_rate", scalar=dtype)(grid, (_THREADS,), arguments)
    place, numbers = ((numbers, len(numbers)), ()) if isinstance(numbers, cupy.ndarray) else ((0, 0), numbers)
    numbers = (*numbers, *[dtype.type(0)] * (NUMBERS - len(numbers)))
    arguments = (plan.rule, *plan.chunks, plan.rate if max_norm > 0 else 0, *place, *numbers)
    kernel("optimizer", "optimizer_update", scalar=dtype)((count,), (_THREADS,), arguments)
