"""Softmax with cross-entropy over rows, in NumPy. Sibling: kernels/cpu/softmax_with_loss.py.

q[n,c] = w[c] · ((1 - smoothing) · p[n,c] + smoothing / C)      p: t itself, or one-hot rows of the class indices t
loss = sum_n,c q[n,c] · (log s[n] + m[n] - x[n,c]) / D          terms with q = 0 are 0
dx[n,c] = (y[n,c] · sum_c q[n,c] - q[n,c]) / D                  y, m, s: see softmax.py

x, dx: (N, C). t: class indices (N,), of which `ignore` stands for q[n] = 0 and others outside [0, C) for NaN; or label
rows (N, C), with ignore None. weight: w (C,), None for ones. D = N for label rows, else the sum of w[t[n]] over the n
not ignored. Writes dx, returns the loss.
"""

import numpy as np

from .log_softmax import log_softmax_forward


def softmax_with_loss(x, t, weight, smoothing, ignore, dx):
    N, C = x.shape
    w = np.ones(C) if weight is None else weight
    if t.ndim == 1:
        ignored = np.zeros(N, bool) if ignore is None else t == ignore
        p = (t[:, None] == np.arange(C)).astype(x.dtype)
        p[~ignored & ((t < 0) | (t >= C))] = np.nan
        D = np.sum(w * p, where=~ignored[:, None])
    else:
        ignored, p, D = np.zeros(N, bool), t, N
    q = np.where(ignored[:, None], 0, w * ((1 - smoothing) * p + smoothing / C))
    log_y = np.empty_like(x)
    log_softmax_forward(x, log_y)
    with np.errstate(invalid="ignore"):  # NaN where nothing counts, as the mean of nothing
        loss = np.sum(np.where(q == 0, 0, -q * log_y), dtype=np.float64) / D
    dx[...] = (np.exp(log_y) * q.sum(axis=1, keepdims=True) - q) / (D or 1)
    return loss
