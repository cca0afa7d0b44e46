"""Rectified linear unit, on a GPU. Sibling: kernels/ref/relu.py.

out = max(x, 0), NaN stays NaN      dx = 0 where y <= 0, else dout      (y: the output of forward)

All arrays contiguous and of one shape, any number of axes.
"""

from ._elementwise import elementwise


def relu_forward(x, out):
    elementwise("relu", "relu_forward", out, x)


def relu_backward(dout, y, dx):
    elementwise("relu", "relu_backward", dx, dout, y)
