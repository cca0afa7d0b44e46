"""Softplus, in NumPy. Sibling: kernels/cpu/softplus.py.

out = log(1 + exp(x))      dx = dout · (1 - exp(-y))      (y: the output of forward)

All arrays of one shape, any number of axes.
"""

import numpy as np


def softplus_forward(x, out):
    np.logaddexp(x, 0, out=out)


def softplus_backward(dout, y, dx):
    dx[...] = -dout * np.expm1(-y)
