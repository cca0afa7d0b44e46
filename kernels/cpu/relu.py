"""Rectified linear unit. Sibling: kernels/ref/relu.py.

out = max(x, 0), NaN stays NaN      dx = 0 where y <= 0, else dout      (y: the output of forward)

All arrays contiguous, of one shape and dtype, any number of axes; x may be float16, the others then float32.
"""

from ._dtype import zero_of
from ._elementwise import elementwise, in_vectors, widen


@elementwise(parallel_above=30_000)
def relu_forward(x, out, n):
    in_vectors()
    for i in range(n):
        v = widen(x[i])
        out[i] = zero_of(v) if v <= 0 else v


@elementwise(parallel_above=18_000)
def relu_backward(dout, y, dx, n):
    in_vectors()
    for i in range(n):
        dx[i] = zero_of(y[i]) if y[i] <= 0 else dout[i]
