"""Sigmoid with binary cross-entropy. Sibling: kernels/ref/sigmoid_with_loss.py.

y = 1 / (1 + exp(-x))      dx = scale · (y - t)
nll = log(1 + exp(-|x|)) + (x · (1 - t) if x > 0 else -x · t)      without the difference of x and x · t

All arrays contiguous, of one shape and dtype, any number of axes; t in [0, 1].
"""

import math

from numba import prange

from ._jit import cpu_kernel
from ._math import exp


@cpu_kernel(parallel_above=12_000, flat=True)
def sigmoid_with_loss_forward(x, t, y, nll):
    one = x.dtype.type(1)
    for i in prange(x.size):
        y[i] = one / (one + exp(-x[i]))
        nll[i] = math.log1p(exp(-abs(x[i]))) + (x[i] * (one - t[i]) if x[i] > 0 else -x[i] * t[i])


@cpu_kernel(parallel_above=50_000, flat=True)
def sigmoid_with_loss_backward(y, t, scale, dx):
    for i in prange(y.size):
        dx[i] = scale * (y[i] - t[i])
