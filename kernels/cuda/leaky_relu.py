"""Leaky rectified linear unit, on a GPU. Sibling: kernels/ref/leaky_relu.py.

out = alpha · x where x < 0, else x      dx = alpha · dout where y <= 0, else dout      (y: the output of forward)

alpha: a Python float >= 0. All arrays contiguous and of one shape, any number of axes.
"""

from ._elementwise import elementwise


def leaky_relu_forward(x, alpha, out):
    elementwise("leaky_relu", "leaky_relu_forward", out, x, alpha)


def leaky_relu_backward(dout, y, alpha, dx):
    elementwise("leaky_relu", "leaky_relu_backward", dx, dout, y, alpha)
