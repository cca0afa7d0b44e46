"""Dropout, whose masks are those of kernels/ref/dropout.py. All arrays contiguous, of one dtype.

The seed may also be an int64 array of one element, on the device: what it holds when the kernel runs.
"""

import cupy
import numpy as np

from ._elementwise import grid_of
from ._launch import kernel


def dropout_forward(x, seed, ratio, out):
    if x.size == 0:
        return
    place, seed = (seed, 0) if isinstance(seed, cupy.ndarray) else (0, seed)
    words = np.array([seed & 0xFFFFFFFF, seed >> 32, int(ratio * 2**32)], np.uint32)
    kernel("dropout", "dropout", scalar=x.dtype)(*grid_of(out), (x, place, *words, out, x.size))


def dropout_backward(dout, seed, ratio, dx):
    dropout_forward(dout, seed, ratio, dx)
