"""Softmax over rows, on a GPU. Sibling: kernels/ref/softmax.py.

y[n,c] = exp(x[n,c] - m[n]) / sum_c exp(x[n,c] - m[n])      m = row max
dx[n,c] = y[n,c] · (dout[n,c] - sum_c dout[n,c] · y[n,c])

All arrays (N, C), contiguous. m and the sum in one pass: Milakov, Gimelshein, arXiv:1805.02867 (2018).
"""

from ._rows import over_rows


def softmax_forward(x, y):
    over_rows("softmax", "softmax_forward", x, y)


def softmax_backward(dout, y, dx):
    over_rows("softmax", "softmax_backward", dout, y, dx)
