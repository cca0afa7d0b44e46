"""Logarithm of softmax over rows. Sibling: kernels/ref/log_softmax.py.

y[n,c] = (x[n,c] - m[n]) - log s[n]                 m, s: see softmax.py
dx[n,c] = dout[n,c] - exp(y[n,c]) · sum_c dout[n,c]

All arrays (N, C), contiguous, of one dtype; sums in that dtype.
"""

import numpy as np
from numba import prange

from ._dtype import one_of, zero_of
from ._jit import jit
from ._math import exp_negative, log
from ._memory import address, keep
from ._prange import cpu_kernel
from ._reduce import row_max, row_sum
from .softmax import FEW, STATISTICS, block_of_rows, block_scratch, max_of_columns, store_exp, to_columns, to_rows


@cpu_kernel(parallel_above=12_000)
def log_softmax_forward(x, y):
    block = block_of_rows(x)
    for i in prange((x.shape[0] + block - 1) // block):
        rows = slice(i * block, min(x.shape[0], (i + 1) * block))
        x_rows, y_rows = x[rows], y[rows]
        if x.shape[1] < FEW:
            _few_classes(x_rows, y_rows)
        else:
            _long_rows(x_rows, y_rows)


@jit
def _long_rows(x, y):
    rows, C = x.shape
    row, one, e = C * y.itemsize, one_of(y), np.empty_like(y)
    for n in range(rows):
        m = row_max(address(x) + n * row, C, one)
        for c in range(C):
            y[n, c] = x[n, c] - m
    store_exp(address(y), zero_of(y), address(e), e.size)
    for n in range(rows):
        log_s = log(row_sum(address(e) + n * row, C, one))
        for c in range(C):
            y[n, c] -= log_s
    keep(e)


@jit
def _few_classes(x, y):
    scratch = block_scratch(x)
    m, s, columns = scratch[1], scratch[2], scratch[STATISTICS:]
    to_columns(x, columns)
    max_of_columns(columns, x.shape[1], m)
    s[:] = zero_of(x)
    for c in range(x.shape[1]):
        column = columns[c]
        for r in range(s.size):
            column[r] -= m[r]
            s[r] += exp_negative(column[r])
    for r in range(s.size):
        s[r] = log(s[r])
    for c in range(x.shape[1]):
        column = columns[c]
        for r in range(s.size):
            column[r] -= s[r]
    to_rows(columns, y)


@cpu_kernel(parallel_above=10_000)
def log_softmax_backward(dout, y, dx):
    block = block_of_rows(y)
    for i in prange((y.shape[0] + block - 1) // block):
        rows = slice(i * block, min(y.shape[0], (i + 1) * block))
        _gradient(dout[rows], y[rows], dx[rows])


@jit
def _gradient(dout, y, dx):
    rows, C = y.shape
    e = np.empty_like(y)
    store_exp(address(y), zero_of(y), address(e), e.size)
    for n in range(rows):
        total = row_sum(address(dout) + n * C * y.itemsize, C, one_of(y))
        for c in range(C):
            dx[n, c] = dout[n, c] - e[n, c] * total
