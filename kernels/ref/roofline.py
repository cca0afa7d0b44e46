"""What bounds every kernel: multiply-adds in registers, and copying. Sibling: kernels/cpu/roofline.py."""

import numpy as np

CHAINS = 12


def multiply_adds(repeats, out):
    a = np.arange(CHAINS, dtype=out.dtype)
    for _ in range(repeats):
        a = a / 2 + 0.25
    out[...] = a.sum()
    return 2 * CHAINS * repeats


def copy_to_and_fro(repeats, x, out):
    if repeats:
        out[...] = x
