"""Logistic sigmoid. Sibling: kernels/ref/sigmoid.py.

out = 1 / (1 + exp(-x))      dx = dout · y · (1 - y)      (y: the output of forward)

All arrays contiguous, of one shape and dtype, any number of axes. exp(-x) may become infinite: then out is exactly 0.
"""

from numba import prange

from ._jit import cpu_kernel
from ._math import exp


@cpu_kernel(parallel_above=12_000, flat=True)
def sigmoid_forward(x, out):
    one = x.dtype.type(1)
    for i in prange(x.size):
        out[i] = one / (one + exp(-x[i]))


@cpu_kernel(parallel_above=50_000, flat=True)
def sigmoid_backward(dout, y, dx):
    one = y.dtype.type(1)
    for i in prange(y.size):
        dx[i] = dout[i] * y[i] * (one - y[i])
