"""Logarithm of softmax over rows, in NumPy. Sibling: kernels/cpu/log_softmax.py.

y[n,c] = (x[n,c] - m[n]) - log sum_c exp(x[n,c] - m[n])      m = row max
dx[n,c] = dout[n,c] - exp(y[n,c]) · sum_c dout[n,c]

All arrays (N, C).
"""

import numpy as np


def log_softmax_forward(x, y):
    with np.errstate(invalid="ignore"):  # inf - inf is NaN, as it should be
        np.subtract(x, x.max(axis=1, keepdims=True), out=y)
        y -= np.log(np.exp(y).sum(axis=1, keepdims=True))


def log_softmax_backward(dout, y, dx):
    dx[...] = dout - np.exp(y) * dout.sum(axis=1, keepdims=True)
