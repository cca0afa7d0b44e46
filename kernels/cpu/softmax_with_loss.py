"""Softmax with cross-entropy over rows. Sibling: kernels/ref/softmax_with_loss.py.

nll[n] = log s[n] + m[n] - x[n,t[n]]                      for class indices t (N,)
nll[n] = sum_c t[n,c] · (log s[n] + m[n] - x[n,c])        for label rows t (N, C); terms with t = 0 are 0
dx[n,c] = scale · (y[n,c] · sum_c t[n,c] - t[n,c])        t one-hot for class indices

x, y, dx: (N, C); nll: (N,); one dtype, contiguous; m, s, y: see softmax.py. t: intp in [0, C), or of x's dtype.
"""

import math

from numba import prange

from ._jit import cpu_kernel, jit
from .softmax import exp_row


@jit(fastmath=frozenset())
def _nll(log_s, m, x):
    """-log of the probability of a class. In this order: log s + m first would lose the digits of a small loss."""
    return log_s + (m - x)


@cpu_kernel(parallel_above=12_000)
def _forward_indices(x, t, y, nll):
    for n in prange(x.shape[0]):
        m, s = exp_row(x[n], y[n])
        for c in range(x.shape[1]):
            y[n, c] /= s
        nll[n] = _nll(math.log(s), m, x[n, t[n]])


@cpu_kernel(parallel_above=12_000)
def _forward_rows(x, t, y, nll):
    for n in prange(x.shape[0]):
        m, s = exp_row(x[n], y[n])
        log_s = math.log(s)
        loss = x.dtype.type(0)
        for c in range(x.shape[1]):
            y[n, c] /= s
            if t[n, c] != 0:  # a class of probability 0 costs nothing, however impossible its score
                loss += t[n, c] * _nll(log_s, m, x[n, c])
        nll[n] = loss


@cpu_kernel(parallel_above=50_000)
def _backward_indices(y, t, scale, dx):
    for n in prange(y.shape[0]):
        for c in range(y.shape[1]):
            dx[n, c] = scale * y[n, c]
        dx[n, t[n]] -= scale


@cpu_kernel(parallel_above=50_000)
def _backward_rows(y, t, scale, dx):
    for n in prange(y.shape[0]):
        total = y.dtype.type(0)
        for c in range(y.shape[1]):
            total += t[n, c]
        for c in range(y.shape[1]):
            dx[n, c] = scale * (y[n, c] * total - t[n, c])


def softmax_with_loss_forward(x, t, y, nll):
    (_forward_indices if t.ndim == 1 else _forward_rows)(x, t, y, nll)


def softmax_with_loss_backward(y, t, scale, dx):
    (_backward_indices if t.ndim == 1 else _backward_rows)(y, t, scale, dx)
