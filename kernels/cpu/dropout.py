"""Dropout. Sibling: kernels/ref/dropout.py.

out[i] = x[i] · mask[i]      dx[i] = dout[i] · mask[i]      mask[i] = 1 where hash(i, seed) >= ratio · 2^32, else 0

All arrays contiguous, of one shape and dtype, any number of axes; i counts elements in order, modulo 2^32.
seed: an int in [0, 2^63); ratio in [0, 1). hash: two rounds of a 32-bit integer hash, a key from the seed before each;
by C. Wellons, "Prospecting for Hash Functions" (2018). Nothing is stored: backward computes the mask again. A product,
not a choice: NaN and infinity are seen wherever they are.
"""

import numpy as np
from numba import prange

from ._jit import jit
from ._prange import cpu_kernel

_U = np.uint32


@jit
def _mix(h):
    # Each step back to 32 bits: Numba would go on with 64.
    h = _U(_U(h ^ (h >> _U(16))) * _U(0x21F0AAAD))
    h = _U(_U(h ^ (h >> _U(15))) * _U(0x735A2D97))
    return _U(h ^ (h >> _U(15)))


@cpu_kernel(parallel_above=20_000, flat=True)
def dropout_forward(x, seed, ratio, out):
    first = _mix(_U(seed))
    second, least = _mix(_U(first ^ _U(seed >> 32))), _U(ratio * 2**32)
    for i in prange(x.size):
        kept = _mix(_U(_mix(_U(_U(i) + first)) ^ second)) >= least
        out[i] = x[i] * x.dtype.type(kept)


def dropout_backward(dout, seed, ratio, dx):
    dropout_forward(dout, seed, ratio, dx)
