"""What bounds every kernel: multiply-adds in registers, and copying. Sibling: kernels/ref/roofline.py.

multiply_adds: out[k] = the sum of MULTIPLY_ADD_CHAINS values that start from x[k], x[k] + 1, ... and each go through
a <- a/2 + 1/4 `repeats` times; returns the number of floating-point operations.
copy_to_and_fro: out = x, then x = out, `repeats` times.

x, out: (K,), or (K, D) to copy; each k belongs to one thread, and none waits for another.
"""

from numba import prange

from ._jit import cpu_kernel
from ._tile import MULTIPLY_ADD_CHAINS, lanes, multiply_add_chains


@cpu_kernel(parallel_above=0)
def multiply_adds(x, repeats, out):
    for k in prange(x.size):
        out[k] = multiply_add_chains(x[k], repeats)
    return 2 * MULTIPLY_ADD_CHAINS * lanes(x[0]) * repeats * x.size


@cpu_kernel(parallel_above=0)
def copy_to_and_fro(x, repeats, out):
    for k in prange(x.shape[0]):
        for _ in range(repeats):
            out[k] = x[k]
            x[k] = out[k]
