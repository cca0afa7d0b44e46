"""Logistic sigmoid. Sibling: kernels/ref/sigmoid.py.

out = 1 / (1 + exp(-x))      dx = dout · y · (1 - y)      (y: the output of forward)

All arrays contiguous, of one shape and dtype, any number of axes; x may be float16, the others then float32.
"""

from ._dtype import one_of
from ._elementwise import elementwise, in_vectors, widen
from ._math import sigmoid


@elementwise(parallel_above=10_000)
def sigmoid_forward(x, out, n):
    in_vectors()
    for i in range(n):
        out[i] = sigmoid(widen(x[i]))


@elementwise(parallel_above=22_000)
def sigmoid_backward(dout, y, dx, n):
    in_vectors()
    for i in range(n):
        dx[i] = dout[i] * y[i] * (one_of(y[i]) - y[i])
