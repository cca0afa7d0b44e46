"""Leaky rectified linear unit, in NumPy. Sibling: kernels/cpu/leaky_relu.py.

out = alpha · x where x < 0, else x      dx = alpha · dout where y <= 0, else dout      (y: the output of forward)

alpha: a Python float >= 0. All arrays of one shape, any number of axes.
"""

import numpy as np


def leaky_relu_forward(x, alpha, out):
    np.copyto(out, np.where(x < 0, alpha * x, x))


def leaky_relu_backward(dout, y, alpha, dx):
    np.copyto(dx, np.where(y <= 0, alpha * dout, dout))
