"""Leaky rectified linear unit. Sibling: kernels/ref/leaky_relu.py.

out = alpha · x where x < 0, else x      dx = alpha · dout where y <= 0, else dout      (y: the output of forward)

alpha: a Python float >= 0, so that y shows where x was negative. Arrays contiguous, of one shape and dtype, any number
of axes; x may be float16, the others then float32. Maas, Hannun, Ng, ICML workshop on deep learning (2013).
"""

from ._elementwise import elementwise, in_vectors, widen
from ._math import in_dtype_of


@elementwise(parallel_above=30_000, scalars=("alpha",))
def leaky_relu_forward(x, alpha, out, n):
    in_vectors()
    slope = in_dtype_of(out[0], alpha[0])
    for i in range(n):
        v = widen(x[i])
        out[i] = slope * v if v < 0 else v


@elementwise(parallel_above=18_000, scalars=("alpha",))
def leaky_relu_backward(dout, y, alpha, dx, n):
    in_vectors()
    slope = in_dtype_of(dx[0], alpha[0])
    for i in range(n):
        dx[i] = slope * dout[i] if y[i] <= 0 else dout[i]
