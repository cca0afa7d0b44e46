"""Softmax over rows. Sibling: kernels/ref/softmax.py.

y[n,c] = exp(x[n,c] - m[n]) / s[n]      m = row max,  s[n] = sum_c exp(x[n,c] - m[n])
dx[n,c] = y[n,c] · (dout[n,c] - sum_c dout[n,c] · y[n,c])

All arrays (N, C), contiguous, of one dtype; sums in that dtype, in vector-wide partial sums.
Max shift: Blanchard, Higham, Higham, IMA J. Numer. Anal. 41 (2021).
"""

import numpy as np
from numba import prange

from ._jit import cpu_kernel, jit
from ._math import exp, row_max

_LONG_ROW = 256  # from here on a row by itself fills its vectors
_BLOCK = 4096  # elements


@jit
def rows_at_once(classes):
    """How many rows to hand to `exp_rows`: those that stay in the first-level cache."""
    return max(1, _BLOCK // classes)


@jit
def exp_rows(x, e):
    """e <- exp(x - max of its row); returns the maxima of the rows of x, and the sums of those of e."""
    rows, classes = x.shape
    m, s = np.empty(rows, x.dtype), np.empty(rows, x.dtype)
    if classes >= _LONG_ROW:
        for n in range(rows):
            m[n], s[n] = _exp_row(x[n], e[n])
        return m, s
    for n in range(rows):
        m[n] = row_max(x[n])
        for c in range(classes):
            e[n, c] = x[n, c] - m[n]
    exp_in_place(e.reshape(rows * classes))
    for n in range(rows):
        total = x.dtype.type(0)
        for c in range(classes):
            total += e[n, c]
        s[n] = total
    return m, s


@jit
def _exp_row(x, e):
    m = row_max(x)
    s = x.dtype.type(0)
    for c in range(x.size):
        e[c] = exp(x[c] - m)
        s += e[c]
    return m, s


@jit
def exp_in_place(a):
    for i in range(a.size):
        a[i] = exp(a[i])


@jit
def softmax_rows(x, y):
    """y = softmax of the rows of x; y may be x."""
    N, C = x.shape
    block = rows_at_once(C)
    for first in range(0, N, block):
        rows = slice(first, min(N, first + block))
        y_rows = y[rows]
        _, s = exp_rows(x[rows], y_rows)
        for n in range(s.size):
            for c in range(C):
                y_rows[n, c] /= s[n]


@cpu_kernel(parallel_above=12_000)
def softmax_forward(x, y):
    block = rows_at_once(x.shape[1])
    for i in prange((x.shape[0] + block - 1) // block):
        rows = slice(i * block, min(x.shape[0], (i + 1) * block))
        softmax_rows(x[rows], y[rows])


@cpu_kernel(parallel_above=50_000)
def softmax_backward(dout, y, dx):
    for n in prange(y.shape[0]):
        dot = y.dtype.type(0)
        for c in range(y.shape[1]):
            dot += dout[n, c] * y[n, c]
        for c in range(y.shape[1]):
            dx[n, c] = y[n, c] * (dout[n, c] - dot)
