"""Softmax over rows. Sibling: kernels/ref/softmax.py.

y[n,c] = exp(x[n,c] - m[n]) / s[n]      m = row max,  s[n] = sum_c exp(x[n,c] - m[n])
dx[n,c] = y[n,c] · (dout[n,c] - sum_c dout[n,c] · y[n,c])

All arrays (N, C), contiguous, of one dtype; sums in that dtype, in vector-wide partial sums.
Max shift: Blanchard, Higham, Higham, IMA J. Numer. Anal. 41 (2021).
"""

from numba import prange

from ._jit import cpu_kernel, jit
from ._math import exp, row_max


@jit
def exp_row(x, e):
    """e <- exp(x - max x), of one row; returns max x and sum e."""
    m = row_max(x)
    s = x.dtype.type(0)
    for c in range(x.size):
        e[c] = exp(x[c] - m)
        s += e[c]
    return m, s


@cpu_kernel(parallel_above=12_000)
def softmax_forward(x, y):
    for n in prange(x.shape[0]):
        _, s = exp_row(x[n], y[n])
        for c in range(x.shape[1]):
            y[n, c] /= s


@cpu_kernel(parallel_above=50_000)
def softmax_backward(dout, y, dx):
    for n in prange(y.shape[0]):
        dot = y.dtype.type(0)
        for c in range(y.shape[1]):
            dot += dout[n, c] * y[n, c]
        for c in range(y.shape[1]):
            dx[n, c] = y[n, c] * (dout[n, c] - dot)
