"""Logarithm of softmax over rows, on a GPU. Sibling: kernels/ref/log_softmax.py.

y[n,c] = (x[n,c] - m[n]) - log sum_c exp(x[n,c] - m[n])      m = row max
dx[n,c] = dout[n,c] - exp(y[n,c]) · sum_c dout[n,c]

All arrays (N, C), contiguous. See softmax.py.
"""

from ._rows import over_rows


def log_softmax_forward(x, y):
    over_rows("log_softmax", "log_softmax_forward", x, y)


def log_softmax_backward(dout, y, dx):
    over_rows("log_softmax", "log_softmax_backward", dout, y, dx)
