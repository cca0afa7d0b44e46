"""Logistic sigmoid, on a GPU. Sibling: kernels/ref/sigmoid.py.

out = 1 / (1 + exp(-x))      dx = dout · y · (1 - y)      (y: the output of forward)

All arrays contiguous and of one shape, any number of axes.
"""

from ._elementwise import elementwise


def sigmoid_forward(x, out):
    elementwise("sigmoid", "sigmoid_forward", out, x)


def sigmoid_backward(dout, y, dx):
    elementwise("sigmoid", "sigmoid_backward", dx, dout, y)
