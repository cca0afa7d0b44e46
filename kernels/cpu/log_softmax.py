"""Logarithm of softmax over rows. Sibling: kernels/ref/log_softmax.py.

y[n,c] = (x[n,c] - m[n]) - log s[n]                 m, s: see softmax.py
dx[n,c] = dout[n,c] - exp(y[n,c]) · sum_c dout[n,c]

All arrays (N, C), contiguous, of one dtype; sums in that dtype.
"""

from numba import prange

from ._jit import cpu_kernel, jit
from ._math import exp_negative, log, row_max
from ._tile import address, copy_bytes, zero_of
from .softmax import FEW, STATISTICS, block_of_rows, block_scratch, max_of_columns, to_columns, to_rows


@cpu_kernel(parallel_above=12_000)
def log_softmax_forward(x, y):
    block = block_of_rows(x)
    for i in prange((x.shape[0] + block - 1) // block):
        rows = slice(i * block, min(x.shape[0], (i + 1) * block))
        x_rows, y_rows = x[rows], y[rows]
        if x.shape[1] < FEW:
            _few_classes(x_rows, y_rows)
        else:
            if address(x) != address(y):
                copy_bytes(address(y_rows), address(x_rows), x_rows.size * x.itemsize)
            for n in range(x_rows.shape[0]):
                _row_in_place(y_rows[n])


@jit
def _row_in_place(y):
    m, s = row_max(y), zero_of(y)
    for c in range(y.size):
        y[c] -= m
        s += exp_negative(y[c])
    log_s = log(s)
    for c in range(y.size):
        y[c] -= log_s


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
    for n in prange(y.shape[0]):
        total = zero_of(y)
        for c in range(y.shape[1]):
            total += dout[n, c]
        for c in range(y.shape[1]):
            dx[n, c] = dout[n, c] - exp_negative(y[n, c]) * total
