"""Gaussian error linear unit, and its approximation by tanh. Sibling: kernels/ref/gelu.py.

gelu:       out = x · P      dx = dout · (P + x · p)      P = (1 + erf(x / √2)) / 2, p = exp(-x² / 2) / √(2π)
gelu_tanh:  out = x · s      dx = dout · (s + x · s · (1 - s) · 2u')
            s = (1 + tanh u) / 2 = sigmoid(2u),  2u = √(8/π) · (x + 0.044715 · x³)

All arrays contiguous, of one shape and dtype, any number of axes; forward's x may be float16, out then float32.
Hendrycks, Gimpel, arXiv:1606.08415 (2016).
"""

import math

from ._dtype import one_of
from ._elementwise import elementwise, in_vectors, widen
from ._math import erf, exp, fma, in_dtype_of, sigmoid

_ROOT_HALF, _ROOT_8_PI, _CUBIC = math.sqrt(0.5), math.sqrt(8 / math.pi), 0.044715
_DENSITY = 1 / math.sqrt(2 * math.pi)


@elementwise(parallel_above=6_000)
def gelu_forward(x, out, n):
    in_vectors()
    for i in range(n):
        v = widen(x[i])
        half, root_half, one = in_dtype_of(v, 0.5), in_dtype_of(v, _ROOT_HALF), one_of(v)
        out[i] = half * v * (one + erf(v * root_half))


@elementwise(parallel_above=5_000)
def gelu_backward(dout, x, dx, n):
    in_vectors()
    for i in range(n):
        v = x[i]
        half, root_half, one = in_dtype_of(v, 0.5), in_dtype_of(v, _ROOT_HALF), one_of(v)
        below = half * (one + erf(v * root_half))
        dx[i] = dout[i] * (below + v * in_dtype_of(v, _DENSITY) * exp(-half * v * v))


@elementwise(parallel_above=8_000)
def gelu_tanh_forward(x, out, n):
    in_vectors()
    for i in range(n):
        v = widen(x[i])
        root, cubic, one = in_dtype_of(v, _ROOT_8_PI), in_dtype_of(v, _CUBIC), one_of(v)
        out[i] = v * sigmoid(root * v * (one + cubic * v * v))


@elementwise(parallel_above=7_000)
def gelu_tanh_backward(dout, x, dx, n):
    in_vectors()
    for i in range(n):
        v = x[i]
        root, cubic, one = in_dtype_of(v, _ROOT_8_PI), in_dtype_of(v, _CUBIC), one_of(v)
        square, most = v * v, in_dtype_of(v, 1e4)  # where s · (1 - s) is 0 for long; infinity times that is NaN
        square = square if square < most else most
        s = sigmoid(root * v * fma(cubic, square, one))
        slope = root * fma(in_dtype_of(v, 3 * _CUBIC), square, one)
        dx[i] = dout[i] * (s + v * (s * (one - s) * slope))
