"""Sigmoid with binary cross-entropy: the loss and its gradient, in NumPy. Sibling: kernels/cpu/sigmoid_with_loss.py.

y = 1 / (1 + exp(-x))      dx = (y - t) / size
loss = mean of log(1 + exp(-|x|)) + (x · (1 - t) if x > 0 else -x · t)      without the difference of x and x · t

x, t, dx: of one shape, any number of axes; t in [0, 1], else NaN. Writes dx, returns the loss.
"""

import numpy as np

from .sigmoid import sigmoid_forward


def sigmoid_with_loss(x, t, dx):
    sigmoid_forward(x, dx)
    dx -= t
    dx /= x.size
    nll = np.log1p(np.exp(-np.abs(x))) + np.where(x > 0, x * (1 - t), -x * t)
    return np.mean(np.where((t >= 0) & (t <= 1), nll, np.nan), dtype=np.float64)
