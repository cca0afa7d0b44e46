"""Mean of squared errors, and its gradient. Sibling: kernels/ref/mean_squared_error.py.

loss = mean of (x - t)²      dx = 2 · (x - t) / size

x, t, dx: contiguous, of one shape and dtype, any number of axes. The loss is summed in float64, by chunks of a fixed
size.
"""

import numpy as np
from numba import carray, prange

from ._jit import cpu_kernel, jit
from ._small_loss import small_loss
from ._tile import one_of

_CHUNK = 4096


@jit
def _chunk(x, t, scale, dx):
    total = 0.0
    for i in range(x.size):
        error = x[i] - t[i]
        total += error * error
        dx[i] = scale * error
    return total


@jit
def _scale(x):
    return (one_of(x) + one_of(x)) / x.dtype.type(x.size)


@cpu_kernel(parallel_above=50_000, flat=True)
def _chunks(x, t, dx):
    scale = _scale(x)
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
    loss[0] = _chunk(x, carray(t, (C,)), _scale(x), carray(dx, (C,))) / C


@small_loss(_one_chunk, at_most=_CHUNK)
def mean_squared_error(x, t, dx):
    loss = mean_squared_error.small(x, t, dx)
    return _chunks(x, t, dx) if loss is False else loss
