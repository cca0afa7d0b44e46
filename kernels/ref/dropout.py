"""Dropout, in NumPy. Sibling: kernels/cpu/dropout.py.

out[i] = x[i] · mask[i]      dx[i] = dout[i] · mask[i]      mask[i] = 1 where hash(i, seed) >= ratio · 2^32, else 0

All arrays of one shape, any number of axes; i counts elements in order, modulo 2^32.
seed: an int in [0, 2^63); ratio in [0, 1). hash: two rounds of a 32-bit integer hash, a key from the seed before each;
by C. Wellons, "Prospecting for Hash Functions" (2018). Nothing is stored: backward computes the mask again. A product,
not a choice: NaN and infinity are seen wherever they are.
"""

import numpy as np


def _mix(h):
    h = (h ^ (h >> np.uint32(16))) * np.uint32(0x21F0AAAD)
    h = (h ^ (h >> np.uint32(15))) * np.uint32(0x735A2D97)
    return h ^ (h >> np.uint32(15))


def dropout_forward(x, seed, ratio, out):
    low, high = np.array([seed & 0xFFFFFFFF, seed >> 32], np.uint32).reshape(2, 1)  # scalars would warn of overflow
    first = _mix(low)
    second = _mix(first ^ high)
    h = _mix(_mix(np.arange(x.size, dtype=np.uint32) + first) ^ second)
    out[...] = x * (h >= np.uint32(ratio * 2**32)).reshape(x.shape)


def dropout_backward(dout, seed, ratio, dx):
    dropout_forward(dout, seed, ratio, dx)
