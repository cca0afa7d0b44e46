"""Sigmoid linear unit, also called swish. Sibling: kernels/ref/silu.py.

out = x · s, s = sigmoid(x)      dx = dout · s · (1 + x · (1 - s))

All arrays contiguous, of one shape and dtype, any number of axes; forward's x may be float16, out then float32.
Elfwing, Uchibe, Doya, Neural Networks 107 (2018).
"""

from ._dtype import one_of
from ._elementwise import elementwise, in_vectors, widen
from ._math import sigmoid


@elementwise(parallel_above=10_000)
def silu_forward(x, out, n):
    in_vectors()
    for i in range(n):
        v = widen(x[i])
        out[i] = v * sigmoid(v)


@elementwise(parallel_above=10_000)
def silu_backward(dout, x, dx, n):
    in_vectors()
    for i in range(n):
        s, one = sigmoid(x[i]), one_of(x[i])
        dx[i] = dout[i] * (s * (one + x[i] * (one - s)))
