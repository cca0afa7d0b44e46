"""Mean of squared errors, and its gradient. Sibling: kernels/ref/mean_squared_error.py.

loss = mean of (x - t)²      dx = 2 · (x - t) / size

x, t, dx: contiguous, of one shape and dtype, any number of axes. The loss is summed by pieces
of a fixed size, and these in float64.
"""

import numpy as np
from numba import carray, prange

from ._dtype import one_of
from ._jit import jit
from ._memory import address
from ._prange import cpu_kernel
from ._reduce import squared_distance
from ._small_loss import small_loss

_CHUNK = 4096
_PIECE = 512  # elements, whose squares are added up in their own dtype


@jit
def _chunk(x, t, scale, dx):
    total = 0.0
    for i in range(0, x.size, _PIECE):
        at, n = i * x.itemsize, min(_PIECE, x.size - i)
        total += squared_distance(address(x) + at, address(t) + at, n, scale)
    for i in range(x.size):
        dx[i] = scale * (x[i] - t[i])
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
