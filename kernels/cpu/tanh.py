"""Hyperbolic tangent. Sibling: kernels/ref/tanh.py.

out = tanh(x)      dx = dout · (1 - y²)      (y: the output of forward)

All arrays contiguous, of one shape and dtype, any number of axes; x may be float16, the others then float32.
"""

from ._dtype import one_of
from ._elementwise import elementwise, in_vectors, widen
from ._math import tanh


@elementwise(parallel_above=10_000)
def tanh_forward(x, out, n):
    in_vectors()
    for i in range(n):
        out[i] = tanh(widen(x[i]))


@elementwise(parallel_above=22_000)
def tanh_backward(dout, y, dx, n):
    in_vectors()
    for i in range(n):
        dx[i] = dout[i] * ((one_of(y[i]) - y[i]) * (one_of(y[i]) + y[i]))
