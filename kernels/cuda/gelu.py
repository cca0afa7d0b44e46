"""Gaussian error linear unit, and its approximation by tanh, on a GPU. Sibling: kernels/ref/gelu.py.

gelu:       out = x · P                    P = (1 + erf(x / √2)) / 2, P' = exp(-x² / 2) / √(2π)
gelu_tanh:  out = x · (1 + tanh u) / 2     u = √(2/π) · (x + 0.044715 · x³)

All arrays contiguous and of one shape, any number of axes. Backward: dx = dout · (P + x · P'), P as in forward.
"""

from ._elementwise import elementwise


def gelu_forward(x, out):
    elementwise("gelu", "gelu_forward", out, x)


def gelu_backward(dout, x, dx):
    elementwise("gelu", "gelu_backward", dx, dout, x)


def gelu_tanh_forward(x, out):
    elementwise("gelu", "gelu_tanh_forward", out, x)


def gelu_tanh_backward(dout, x, dx):
    elementwise("gelu", "gelu_tanh_backward", dx, dout, x)
