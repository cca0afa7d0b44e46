"""Softmax with cross-entropy over rows: the loss and its gradient. Sibling: kernels/ref/softmax_with_loss.py.

q[n,c] = w[c] · ((1 - smoothing) · p[n,c] + smoothing / C)      p: t itself, or one-hot rows of the class indices t
loss = sum_n,c q[n,c] · (log s[n] + m[n] - x[n,c]) / D          terms with q = 0 are 0
dx[n,c] = (y[n,c] · sum_c q[n,c] - q[n,c]) / D                  y, m, s: see softmax.py

x, dx: (N, C), contiguous; t: as in the sibling, intp or of x's dtype, as are dx and weight. The loss is summed in
float64, by blocks of rows of a fixed size. Every x is read once from memory, every dx written once.
"""

import numpy as np
from numba import carray, prange

from ._dtype import nan_of, one_of, zero_of
from ._jit import jit
from ._math import log
from ._memory import address
from ._prange import cpu_kernel
from ._reduce import cross_entropy_sum, row_sum
from ._small_loss import small_loss
from .softmax import block_of_rows, block_scratch, goes_past_caches, softmax_block, softmax_past_caches

_PARALLEL_ABOVE = 12_000
_NOTHING = np.iinfo(np.intp).min  # as `ignore`


@jit
def _block(i, block, N):
    return slice(i * block, min(N, (i + 1) * block))


@jit
def _sum(losses):
    total = 0.0
    for loss in losses:
        total += loss
    return total


@jit
def _weights(t, classes, weight, ignore, w):
    """w[n] = the weight of the class t[n]: 0 of one to ignore, NaN of an unknown one. Where w is longer than t: 1."""
    w[:] = one_of(w)
    nothing, unknown, ignoring = zero_of(w), nan_of(w), ignore != _NOTHING
    for n in range(t.size):
        if ignoring and t[n] == ignore:
            w[n] = nothing
        elif not 0 <= t[n] < classes:
            w[n] = unknown
        elif weight.size:
            w[n] = weight[t[n]]


@jit
def _total_weight(t, classes, weight, ignore):
    if weight.size == 0 and ignore == _NOTHING:
        return np.float64(t.size)
    w = np.empty(t.size, weight.dtype)
    _weights(t, classes, weight, ignore, w)
    return _sum(w)


@jit
def _log_in_place(s):
    for n in range(s.size):
        s[n] = log(s[n])


@jit
def _weigh(t, classes, weight, ignore, scale, scratch):
    """Prepare `softmax_block` for rows of these class indices; their weights stay in the scratch."""
    factor, w = scratch[0], scratch[3]
    _weights(t, classes, weight, ignore, w)
    for n in range(w.size):
        factor[n] = scale * w[n]


@jit
def _take_labels(x, t, scale, scratch, dx):
    """Subtract the labels from what `softmax_block` made of a few rows; returns their loss, not divided by D."""
    m, s, w = scratch[1], scratch[2], scratch[3]
    _log_in_place(s)
    loss = 0.0
    for n in range(t.size):
        label = t[n]
        if 0 <= label < x.shape[1]:
            loss += w[n] * (s[n] + (m[n] - x[n, label]))  # log s + m first would lose the digits of a small loss
            dx[n, label] -= scale * w[n]
        else:
            loss += w[n]
    return loss


@cpu_kernel(parallel_above=_PARALLEL_ABOVE)
def _indices(x, t, weight, ignore, dx):
    N, C = x.shape
    D = _total_weight(t, C, weight, ignore)
    scale = one_of(x) / x.dtype.type(D) if D else zero_of(x)
    past_caches = goes_past_caches(x, dx)
    block = block_of_rows(x, past_caches)
    losses = np.empty((N + block - 1) // block)
    for i in prange(losses.size):
        rows = _block(i, block, N)
        scratch = block_scratch(x, past_caches)
        _weigh(t[rows], C, weight, ignore, scale, scratch)
        if past_caches:
            softmax_past_caches(x[rows], dx[rows], scratch)
        else:
            softmax_block(x[rows], dx[rows], scratch)
        losses[i] = _take_labels(x[rows], t[rows], scale, scratch, dx[rows])
    return _sum(losses) / D


def _few_indices(x, t, dx, N, C, loss):
    """The same without options, on one thread."""
    x, t, dx = carray(x, (N, C)), carray(t, (N,)), carray(dx, (N, C))
    scale, block, scratch, total = one_of(x) / x.dtype.type(N), block_of_rows(x), block_scratch(x), 0.0
    for i in range((N + block - 1) // block):
        rows = _block(i, block, N)
        _weigh(t[rows], C, x[0, :0], _NOTHING, scale, scratch)
        softmax_block(x[rows], dx[rows], scratch)
        total += _take_labels(x[rows], t[rows], scale, scratch, dx[rows])
    loss[0] = total / N


@jit
def _block_of_labels(x, q, scale, scratch, dx):
    """dx = scale · (softmax(x) · sum of q - q) for a few rows of labels q; returns their loss, not divided by D."""
    factor, m, s = scratch[0], scratch[1], scratch[2]
    factor[:] = zero_of(x)
    C, row = x.shape[1], x.shape[1] * x.itemsize
    for n in range(x.shape[0]):
        factor[n] = scale * row_sum(address(q) + n * row, C, scale)
    softmax_block(x, dx, scratch)
    loss = 0.0
    for n in range(x.shape[0]):
        loss += cross_entropy_sum(address(q) + n * row, address(x) + n * row, C, m[n], log(s[n]))
        for c in range(C):
            dx[n, c] -= scale * q[n, c]
    return loss


@cpu_kernel(parallel_above=_PARALLEL_ABOVE)
def _rows(x, t, weight, smoothing, dx):
    N, C = x.shape
    scale, share, block = one_of(x) / x.dtype.type(N), smoothing / x.dtype.type(C), block_of_rows(x)
    losses = np.empty((N + block - 1) // block)
    for i in prange(losses.size):
        rows = _block(i, block, N)
        q = t[rows]
        if weight.size or smoothing:
            q = (one_of(x) - smoothing) * q + share
            if weight.size:
                q *= weight
        losses[i] = _block_of_labels(x[rows], q, scale, block_scratch(x), dx[rows])
    return _sum(losses) / N


@jit
def _label_rows(t, weight, smoothing, ignore, q):
    """q = the label rows of class indices t; see the top."""
    rows, C = q.shape
    w = np.empty(rows, q.dtype)
    _weights(t, C, weight, ignore, w)
    share = smoothing / q.dtype.type(C)
    for n in range(rows):
        label = t[n]
        if not 0 <= label < C or label == ignore:
            for c in range(C):
                q[n, c] = w[n]
            continue
        for c in range(C):
            q[n, c] = share * weight[c] if weight.size else share
        q[n, label] += (one_of(q) - smoothing) * w[n]


@cpu_kernel(parallel_above=_PARALLEL_ABOVE)
def _smoothed_indices(x, t, weight, smoothing, ignore, dx):
    N, C = x.shape
    D = _total_weight(t, C, weight, ignore)
    scale = one_of(x) / x.dtype.type(D) if D else zero_of(x)
    block = block_of_rows(x)
    losses = np.empty((N + block - 1) // block)
    for i in prange(losses.size):
        rows = _block(i, block, N)
        q = np.empty_like(x[rows])
        _label_rows(t[rows], weight, smoothing, ignore, q)
        losses[i] = _block_of_labels(x[rows], q, scale, block_scratch(x), dx[rows])
    return _sum(losses) / D


@small_loss(_few_indices, at_most=_PARALLEL_ABOVE, indices=True)
def softmax_with_loss(x, t, weight, smoothing, ignore, dx):
    if weight is None and ignore is None and not smoothing and t.ndim == 1:
        loss = softmax_with_loss.small(x, t, dx)
        if loss is not False:
            return loss
    if weight is None:
        weight = _NO_WEIGHT[x.dtype.char]
    if t.ndim == 2:
        return _rows(x, t, weight, x.dtype.type(smoothing), dx)
    if ignore is None:
        ignore = _NOTHING
    if smoothing:
        return _smoothed_indices(x, t, weight, x.dtype.type(smoothing), ignore, dx)
    return _indices(x, t, weight, ignore, dx)


_NO_WEIGHT = {dtype: np.empty(0, dtype) for dtype in "fd"}
