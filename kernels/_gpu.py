"""What stands between this machine and computing on its GPU. Nothing is probed before somebody asks."""

import functools
import importlib.util
from ctypes import CDLL


@functools.cache
def gpu_problem() -> str:
    """Why no GPU can be used, in words; empty if one can."""
    if importlib.util.find_spec("cupy") is None:
        return "CuPy is not installed"
    import cupy

    if cupy.cuda.is_available():
        return ""
    try:
        CDLL("libcuda.so.1")
    except OSError:
        return "CuPy is installed, but the NVIDIA driver (libcuda.so.1) was not found"
    return "CuPy is installed, but it finds no usable NVIDIA GPU"
