"""Sigmoid linear unit, in NumPy. Sibling: kernels/cpu/silu.py.

out = x · s, s = sigmoid(x)      dx = dout · s · (1 + x · (1 - s))

All arrays of one shape, any number of axes.
"""

import numpy as np

from .sigmoid import sigmoid_forward


def silu_forward(x, out):
    out[...] = x * _sigmoid(x)


def silu_backward(dout, x, dx):
    s = _sigmoid(x)
    dx[...] = dout * (s * (1 + x * (1 - s)))


def _sigmoid(x):
    s = np.empty_like(x)
    sigmoid_forward(x, s)
    return s
