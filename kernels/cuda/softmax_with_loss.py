"""Softmax with cross-entropy over rows: the loss and its gradient, on a GPU. Sibling: kernels/ref/softmax_with_loss.py.

q[n,c] = w[c] · ((1 - smoothing) · p[n,c] + smoothing / C)      p: t itself, or one-hot rows of the class indices t
loss = sum_n,c q[n,c] · (log s[n] + m[n] - x[n,c]) / D          terms with q = 0 are 0
dx[n,c] = (y[n,c] · sum_c q[n,c] - q[n,c]) / D                  y, m, s: see softmax.py

x, dx: (N, C), contiguous; t: as in the sibling, int32, int64 or of x's dtype, as is weight. Memory sends x once and
takes dx once. Writes dx, returns the loss: float64, an array of no axes.
"""

import cupy

from ._launch import kernel
from ._loss import summed
from ._rows import teams


def softmax_with_loss(x, t, weight, smoothing, ignore, dx):
    N, C = x.shape
    indices = t.ndim == 1
    types = {"scalar": x.dtype, "label": t.dtype if indices else cupy.dtype("int64")}
    ending, blocks, threads, sizes = teams(N, C, x.itemsize)
    w = 0 if weight is None else weight
    options = (t, w, float(smoothing))
    if indices:
        ignoring = (int(ignore is not None), 0 if ignore is None else ignore)
        D = 0
        if weight is not None or ignore is not None:
            D = cupy.empty((), "float64")
            kernel("softmax_with_loss", "total_weight", **types)((1,), (1024,), (t, w, *ignoring, N, C, D))
        options += (*ignoring, D)
    f = kernel("softmax_with_loss", f"{'indices' if indices else 'rows'}_{ending}", **types)
    return summed(lambda parts: f((blocks,), (threads,), (x, *options, dx, parts, *sizes)), blocks)
