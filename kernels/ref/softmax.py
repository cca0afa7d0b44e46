"""Softmax over rows, in NumPy. Sibling: kernels/cpu/softmax.py.

y[n,c] = exp(x[n,c] - m[n]) / sum_c exp(x[n,c] - m[n])      m = row max
dx[n,c] = y[n,c] · (dout[n,c] - sum_c dout[n,c] · y[n,c])

All arrays (N, C). Max shift: Blanchard, Higham, Higham, IMA J. Numer. Anal. 41 (2021).
"""

import numpy as np


def softmax_forward(x, y):
    with np.errstate(invalid="ignore"):  # inf - inf is NaN, as it should be
        np.exp(x - x.max(axis=1, keepdims=True), out=y)
    y /= y.sum(axis=1, keepdims=True)


def softmax_backward(dout, y, dx):
    dx[...] = y * (dout - (dout * y).sum(axis=1, keepdims=True))
