"""What stands between this machine and computing on its GPU. Nothing is probed before somebody asks."""

import functools
import importlib.util
from ctypes import CDLL


@functools.cache
def gpu_problem() -> str:
    """Why no GPU can be used, in words."""
    if importlib.util.find_spec("cupy") is None:
        return "CuPy is not installed"
    try:
        CDLL("libcuda.so.1")
    except OSError:
        return "CuPy is installed, but the NVIDIA driver (libcuda.so.1) was not found"
    import cupy

    if not cupy.cuda.is_available():
        return "CuPy is installed, but it finds no usable NVIDIA GPU"
    return "this version of fastnn has no GPU kernels yet"
