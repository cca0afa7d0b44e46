"""Stochastic gradient descent. Sibling: kernels/ref/sgd.py.

param <- param - lr · grad

Arrays contiguous, of one shape and dtype, any number of axes; lr of their dtype.
"""

from numba import prange

from ._jit import cpu_kernel


@cpu_kernel(parallel_above=50_000, flat=True)
def sgd_update(grad, lr, param):
    for i in prange(param.size):
        param[i] -= lr * grad[i]
