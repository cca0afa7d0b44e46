"""Hyperbolic tangent, on a GPU. Sibling: kernels/ref/tanh.py.

out = tanh(x)      dx = dout · (1 - y²)      (y: the output of forward)

All arrays contiguous and of one shape, any number of axes.
"""

from ._elementwise import elementwise


def tanh_forward(x, out):
    elementwise("tanh", "tanh_forward", out, x)


def tanh_backward(dout, y, dx):
    elementwise("tanh", "tanh_backward", dx, dout, y)
