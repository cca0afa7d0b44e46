"""Rectified linear unit. Sibling: kernels/ref/relu.py.

out = max(x, 0), NaN stays NaN      dx = 0 where y <= 0, else dout      (y: the output of forward)

All arrays contiguous, of one shape and dtype, any number of axes.
"""

from numba import prange

from ._jit import cpu_kernel


@cpu_kernel(parallel_above=50_000, flat=True)
def relu_forward(x, out):
    for i in prange(x.size):
        out[i] = x.dtype.type(0) if x[i] <= 0 else x[i]


@cpu_kernel(parallel_above=50_000, flat=True)
def relu_backward(dout, y, dx):
    for i in prange(y.size):
        dx[i] = y.dtype.type(0) if y[i] <= 0 else dout[i]
