"""Sigmoid with binary cross-entropy, in NumPy. Sibling: kernels/cpu/sigmoid_with_loss.py.

y = 1 / (1 + exp(-x))      dx = scale · (y - t)
nll = log(1 + exp(-|x|)) + (x · (1 - t) if x > 0 else -x · t)      without the difference of x and x · t

All arrays of one shape, any number of axes; t in [0, 1].
"""

import numpy as np

from .sigmoid import sigmoid_forward


def sigmoid_with_loss_forward(x, t, y, nll):
    sigmoid_forward(x, y)
    nll[...] = np.log1p(np.exp(-np.abs(x))) + np.where(x > 0, x * (1 - t), -x * t)


def sigmoid_with_loss_backward(y, t, scale, dx):
    dx[...] = scale * (y - t)
