"""Gaussian error linear unit, and its approximation by tanh, in NumPy. Sibling: kernels/cpu/gelu.py.

gelu:       out = x · P                    P = (1 + erf(x / √2)) / 2, P' = exp(-x² / 2) / √(2π)
gelu_tanh:  out = x · (1 + tanh u) / 2     u = √(2/π) · (x + 0.044715 · x³)

All arrays of one shape, any number of axes. Backward: dx = dout · (P + x · P'), with (1 + tanh u) / 2 as P.
"""

import math

import numpy as np

_erf = np.vectorize(math.erf, otypes=["float64"])


def gelu_forward(x, out):
    out[...] = x * (1 + _erf(x / math.sqrt(2))) / 2


def gelu_backward(dout, x, dx):
    below = (1 + _erf(x / math.sqrt(2))) / 2
    dx[...] = dout * (below + x * np.exp(-(x**2) / 2) / math.sqrt(2 * math.pi))


def gelu_tanh_forward(x, out):
    u = math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)
    out[...] = x * (1 + np.tanh(u)) / 2


def gelu_tanh_backward(dout, x, dx):
    t = np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))
    square = np.minimum(x**2, 1e4)  # where 1 - t² is 0 for long; not infinity, which times 0 is NaN
    slope = math.sqrt(2 / math.pi) * (1 + 3 * 0.044715 * square)
    dx[...] = dout * ((1 + t) + x * (1 - t**2) * slope) / 2
