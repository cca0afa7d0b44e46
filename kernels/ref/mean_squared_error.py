"""Mean of squared errors, and its gradient, in NumPy. Sibling: kernels/cpu/mean_squared_error.py.

loss = mean of (x - t)²      dx = 2 · (x - t) / size

x, t, dx: of one shape, any number of axes. Writes dx, returns the loss.
"""

import numpy as np


def mean_squared_error(x, t, dx):
    np.subtract(x, t, out=dx)
    loss = np.mean(np.square(dx), dtype=np.float64)
    dx *= 2 / x.size
    return loss
