"""Sigmoid with binary cross-entropy, in NumPy. Sibling: kernels/cpu/sigmoid_with_loss.py.

y = 1 / (1 + exp(-x))      nll = max(x, 0) - x·t + log(1 + exp(-|x|))      dx = scale · (y - t)

All arrays of one shape, any number of axes; t in [0, 1].
"""

import numpy as np

from .sigmoid import sigmoid_forward


def sigmoid_with_loss_forward(x, t, y, nll):
    sigmoid_forward(x, y)
    nll[...] = np.maximum(x, 0) - x * t + np.log1p(np.exp(-np.abs(x)))


def sigmoid_with_loss_backward(y, t, scale, dx):
    dx[...] = scale * (y - t)
