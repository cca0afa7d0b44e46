"""Softmax with cross-entropy over rows, in NumPy. Sibling: kernels/cpu/softmax_with_loss.py.

nll[n] = log s[n] + m[n] - x[n,t[n]]                      for class indices t (N,); NaN where t is not in [0, C)
nll[n] = sum_c t[n,c] · (log s[n] + m[n] - x[n,c])        for label rows t (N, C); terms with t = 0 are 0
dx[n,c] = scale · (y[n,c] · sum_c t[n,c] - t[n,c])        t one-hot for class indices

x, y, dx: (N, C); nll: (N,); m: row max; s = sum_c exp(x - m); y = exp(x - m) / s. The forward function returns the mean
of nll, summed in float64.
"""

import numpy as np

from .softmax import softmax_forward


def softmax_with_loss_forward(x, t, y, nll):
    softmax_forward(x, y)
    with np.errstate(invalid="ignore"):  # inf - inf is NaN, as it should be
        shifted = x - x.max(axis=1, keepdims=True)
        log_s = np.log(np.exp(shifted).sum(axis=1, keepdims=True))
        if t.ndim == 1:
            known = (t >= 0) & (t < x.shape[1])
            nll[...] = np.where(known, (log_s - shifted)[np.arange(len(t)), np.where(known, t, 0)], np.nan)
        else:
            np.sum(np.where(t == 0, 0, t * (log_s - shifted)), axis=1, out=nll)
    return np.mean(nll, dtype=np.float64)


def softmax_with_loss_backward(y, t, scale, dx):
    if t.ndim == 1:
        dx[...] = y
        dx[np.arange(len(t)), t] -= 1
    else:
        dx[...] = y * t.sum(axis=1, keepdims=True) - t
    dx *= scale
