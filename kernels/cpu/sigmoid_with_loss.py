"""Sigmoid with binary cross-entropy: the loss and its gradient. Sibling: kernels/ref/sigmoid_with_loss.py.

y = 1 / (1 + exp(-x))      dx = (y - t) / size
loss = mean of log(1 + exp(-|x|)) + (x · (1 - t) if x > 0 else -x · t)      without the difference of x and x · t

x, t, dx: contiguous, of one shape and dtype, any number of axes; t in [0, 1], else NaN. The loss is summed in float64,
by chunks of a fixed size.
"""

import numpy as np
from numba import carray, prange

from ._dtype import nan_of, one_of, zero_of
from ._jit import jit
from ._math import exp_negative, log1p, select
from ._memory import address, keep
from ._prange import cpu_kernel
from ._reduce import wide_sum
from ._small_loss import small_loss

_CHUNK = 4096


@jit
def _chunk(x, t, scale, dx):
    one, losses = one_of(x), np.empty(x.size, x.dtype)
    for i in range(x.size):
        e = exp_negative(-abs(x[i]))
        y = select(x[i] > 0, one, e) / (one + e)
        wrong = select((t[i] >= 0) & (t[i] <= one), zero_of(x), nan_of(x))
        losses[i] = log1p(e) + select(x[i] > 0, x[i] * (one - t[i]), -x[i] * t[i]) + wrong
        dx[i] = scale * (y - t[i])
    total = wide_sum(address(losses), losses.size, one)
    keep(losses)
    return total


@cpu_kernel(parallel_above=12_000, flat=True)
def _chunks(x, t, dx):
    scale = one_of(x) / x.dtype.type(x.size)
    losses = np.empty((x.size + _CHUNK - 1) // _CHUNK)
    for i in prange(losses.size):
        part = slice(i * _CHUNK, min(x.size, (i + 1) * _CHUNK))
        losses[i] = _chunk(x[part], t[part], scale, dx[part])
    total = 0.0
    for loss in losses:
        total += loss
    return total / x.size


def _one_chunk(x, t, dx, N, C, loss):
    x = carray(x, (C,))
    loss[0] = _chunk(x, carray(t, (C,)), one_of(x) / x.dtype.type(C), carray(dx, (C,))) / C


@small_loss(_one_chunk, at_most=_CHUNK)
def sigmoid_with_loss(x, t, dx):
    loss = sigmoid_with_loss.small(x, t, dx)
    return _chunks(x, t, dx) if loss is False else loss
