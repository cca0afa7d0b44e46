"""Kernels: functions on arrays, without state. ``ref`` (plain NumPy), ``cpu`` (Numba) and ``cuda`` (CUDA C, on CuPy
arrays) offer the same functions.

A kernel reads its inputs and overwrites its outputs, which come last; it allocates nothing that the caller could keep,
checks nothing and prints nothing. The layers check. Each set is also a namespace of ``xp``, its array module.
"""

import functools
import importlib
from types import ModuleType

import numpy as np

from ._gpu import gpu_problem
from ._threads import get_num_threads, set_num_threads, threads

__all__ = ["for_array", "get", "get_num_threads", "gpu_problem", "set_num_threads", "threads"]


@functools.cache
def get(device: str) -> ModuleType:
    """The kernel set of a device: ``"cpu"`` (Numba), ``"ref"`` (NumPy, the readable oracle) or ``"cuda"``.

    Raises
    ------
    ValueError
        For another name.
    RuntimeError
        For ``"cuda"`` where no GPU can be used, saying why.

    Examples
    --------
    >>> import numpy as np
    >>> from fastnn import kernels
    >>> x = np.array([-1.0, 2.0])
    >>> out = np.empty_like(x)
    >>> kernels.get("ref").relu_forward(x, out)
    >>> out
    array([0., 2.])
    """
    if device == "cuda" and (problem := gpu_problem()):
        raise RuntimeError(f"fastnn: no GPU to compute on: {problem}; set fastnn.config.GPU = False")
    if device not in ("cpu", "cuda", "ref"):
        raise ValueError(f"kernels.get: device must be 'cpu', 'ref' or 'cuda', got {device!r}")
    return importlib.import_module(f"{__name__}.{device}")


def for_array(x: object) -> ModuleType:
    """The kernel set that computes on arrays like `x`: ``cpu`` for NumPy arrays, ``cuda`` for CuPy's."""
    if isinstance(x, np.ndarray):
        return get("cpu")
    if is_cupy(x):
        return get("cuda")
    raise TypeError(f"fastnn: expected an array of NumPy or CuPy, got {type(x).__name__}")


def is_cupy(x: object) -> bool:
    """Whether x is a CuPy array; CuPy is not imported to find out."""
    return type(x).__module__.partition(".")[0] == "cupy"
