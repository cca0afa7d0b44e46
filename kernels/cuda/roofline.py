"""What bounds every kernel: multiply-adds in registers, and copying. What they compute: kernels/cpu/roofline.py."""

from ._elementwise import elementwise
from ._launch import kernel

_THREADS = 256
_CHAINS = 12  # as in roofline.cu


def multiply_adds(x, repeats, out):
    f = kernel("roofline", "multiply_adds", scalar=x.dtype)
    f((-(-x.size // _THREADS),), (_THREADS,), (x, repeats, out, x.size))
    return 2 * _CHAINS * repeats * x.size


def copy_to_and_fro(x, repeats, out):
    for _ in range(repeats):
        elementwise("roofline", "copy", out, x)
        elementwise("roofline", "copy", x, out)
