"""Softplus. Sibling: kernels/ref/softplus.py.

out = log(1 + exp(x))      dx = dout · (1 - exp(-y)) = dout · sigmoid(x)      (y: the output of forward)

All arrays contiguous, of one shape and dtype, any number of axes; x may be float16, the others then float32.
"""

from ._elementwise import elementwise, in_vectors, widen
from ._math import expm1_negative, softplus


@elementwise(parallel_above=6_000)
def softplus_forward(x, out, n):
    in_vectors()
    for i in range(n):
        out[i] = softplus(widen(x[i]))


@elementwise(parallel_above=14_000)
def softplus_backward(dout, y, dx, n):
    in_vectors()
    for i in range(n):
        dx[i] = dout[i] * abs(expm1_negative(-y[i]))  # not minus: that would make zeros negative
