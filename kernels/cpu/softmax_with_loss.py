"""Softmax with cross-entropy over rows. Sibling: kernels/ref/softmax_with_loss.py.

nll[n] = log s[n] + m[n] - x[n,t[n]]                      for class indices t (N,); NaN where t is not in [0, C)
nll[n] = sum_c t[n,c] · (log s[n] + m[n] - x[n,c])        for label rows t (N, C); terms with t = 0 are 0
dx[n,c] = scale · (y[n,c] · sum_c t[n,c] - t[n,c])        t one-hot for class indices

x, y, dx: (N, C); nll: (N,); one dtype, contiguous; m, s, y: see softmax.py. t: intp, or of x's dtype. The forward
function returns the mean of nll, summed in float64.
"""

import math

import numpy as np
from numba import prange

from ._jit import cpu_kernel, jit
from .softmax import exp_rows, rows_at_once


@jit(fastmath=frozenset())
def _nll(log_s, m, x):
    """-log of the probability of a class. In this order: log s + m first would lose the digits of a small loss."""
    return log_s + (m - x)


@jit
def _mean(nll):
    total = 0.0
    for n in range(nll.size):
        total += nll[n]
    return total / nll.size


@cpu_kernel(parallel_above=12_000)
def _forward_indices(x, t, y, nll):
    N, C = x.shape
    block = rows_at_once(C)
    for i in prange((N + block - 1) // block):
        rows = slice(i * block, min(N, (i + 1) * block))
        x_rows, t_rows, y_rows, nll_rows = x[rows], t[rows], y[rows], nll[rows]
        m, s = exp_rows(x_rows, y_rows)
        for n in range(s.size):
            for c in range(C):
                y_rows[n, c] /= s[n]
            known = 0 <= t_rows[n] < C
            nll_rows[n] = _nll(math.log(s[n]), m[n], x_rows[n, t_rows[n]]) if known else np.nan
    return _mean(nll)


@cpu_kernel(parallel_above=12_000)
def _forward_rows(x, t, y, nll):
    N, C = x.shape
    block = rows_at_once(C)
    for i in prange((N + block - 1) // block):
        rows = slice(i * block, min(N, (i + 1) * block))
        x_rows, t_rows, y_rows, nll_rows = x[rows], t[rows], y[rows], nll[rows]
        m, s = exp_rows(x_rows, y_rows)
        for n in range(s.size):
            for c in range(C):
                y_rows[n, c] /= s[n]
            log_s, loss = math.log(s[n]), x.dtype.type(0)
            for c in range(C):
                if t_rows[n, c] != 0:  # a class of probability 0 costs nothing, however impossible its score
                    loss += t_rows[n, c] * _nll(log_s, m[n], x_rows[n, c])
            nll_rows[n] = loss
    return _mean(nll)


@cpu_kernel(parallel_above=50_000)
def _backward_indices(y, t, scale, dx):
    for n in prange(y.shape[0]):
        for c in range(y.shape[1]):
            dx[n, c] = scale * y[n, c]
        if 0 <= t[n] < y.shape[1]:
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
    return (_forward_indices if t.ndim == 1 else _forward_rows)(x, t, y, nll)


def softmax_with_loss_backward(y, t, scale, dx):
    (_backward_indices if t.ndim == 1 else _backward_rows)(y, t, scale, dx)
