"""Softplus, on a GPU. Sibling: kernels/ref/softplus.py.

out = log(1 + exp(x))      dx = dout · (1 - exp(-y))      (y: the output of forward)

All arrays contiguous and of one shape, any number of axes.
"""

from ._elementwise import elementwise


def softplus_forward(x, out):
    elementwise("softplus", "softplus_forward", out, x)


def softplus_backward(dout, y, dx):
    elementwise("softplus", "softplus_backward", dx, dout, y)
