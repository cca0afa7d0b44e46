"""What bounds every kernel: multiply-adds in registers, and copying. Sibling: kernels/ref/roofline.py.

multiply_adds: out[k] = the sum of MULTIPLY_ADD_CHAINS values that start from 0, 1, ... and go through a <- a/2 + 1/4
`repeats` times; returns the number of floating-point operations.
copy_to_and_fro: out = x, then x = out, `repeats` times

out: (K,), and x, out: (K, D); each k belongs to one thread, and none waits for another.
"""

from numba import prange

from ._jit import jit
from ._tile import MULTIPLY_ADD_CHAINS, lanes, multiply_add_chains


@jit(parallel=True)
def multiply_adds(repeats, out):
    for k in prange(out.size):
        out[k] = multiply_add_chains(repeats, out[k])
    return 2 * MULTIPLY_ADD_CHAINS * lanes(out[0]) * repeats * out.size


@jit(parallel=True)
def copy_to_and_fro(repeats, x, out):
    for k in prange(x.shape[0]):
        for _ in range(repeats):
            out[k] = x[k]
            x[k] = out[k]
