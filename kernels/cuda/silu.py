"""Sigmoid linear unit, on a GPU. Sibling: kernels/ref/silu.py.

out = x · s, s = sigmoid(x)      dx = dout · s · (1 + x · (1 - s))

All arrays contiguous and of one shape, any number of axes.
"""

from ._elementwise import elementwise


def silu_forward(x, out):
    elementwise("silu", "silu_forward", out, x)


def silu_backward(dout, x, dx):
    elementwise("silu", "silu_backward", dx, dout, x)
