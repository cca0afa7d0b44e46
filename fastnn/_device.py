"""Where arrays are: in the computer's memory, as NumPy's, or in a GPU's, as CuPy's.

Layers compute where their arrays are. While ``config.GPU`` is true, arrays that users hand over are moved to the GPU.
CuPy is imported when the first array of a GPU appears.
"""

from collections.abc import Callable
from types import ModuleType
from typing import Any

import numpy as np

from . import kernels

Array = np.ndarray[Any, Any]

_CUDA = 2  # DLPack's number of that kind of device


def on_gpu(x: Any) -> bool:
    """Whether x is an array of CuPy's."""
    return kernels.is_cupy(x)


def xp_of(x: Array) -> ModuleType:
    """The module of arrays like x: NumPy or CuPy."""
    return np if isinstance(x, np.ndarray) else kernels.get("cuda").xp


def in_gpu_memory(x: Any) -> bool:
    """Whether x is an array of any library's, such as PyTorch's or JAX's, in the memory of an NVIDIA GPU."""
    if isinstance(x, np.ndarray | np.generic | list | tuple | int | float):
        return False
    if hasattr(x, "__cuda_array_interface__"):
        return True
    return hasattr(x, "__dlpack_device__") and x.__dlpack_device__()[0] == _CUDA


def to_gpu(x: Any) -> Array:
    """`x` as a CuPy array: a copy of a NumPy array; itself, or the same memory, where it is on the GPU already.

    Book 2, ``common/util.py``. Takes arrays of other libraries as well, such as PyTorch's and JAX's.

    Raises
    ------
    RuntimeError
        Where no GPU can be used, saying why.
    """
    xp = kernels.get("cuda").xp
    if on_gpu(x):
        return x
    if in_gpu_memory(x) and not hasattr(x, "__cuda_array_interface__"):
        return xp.from_dlpack(x)
    return xp.asarray(x)


def to_cpu(x: Any) -> Array:
    """`x` as a NumPy array: itself, or a copy of what is on the GPU, which waits for what computes it.

    Book 2, ``common/util.py``.

    Examples
    --------
    >>> import numpy as np
    >>> from fastnn.util import to_cpu
    >>> x = np.zeros(3)
    >>> to_cpu(x) is x
    True
    """
    if on_gpu(x) or in_gpu_memory(x):
        return kernels.get("cuda").xp.asnumpy(to_gpu(x))
    return np.asarray(x)


def mover(device: str, who: str) -> Callable[[Array], Array]:
    """A function that brings arrays to a device, "cpu" or "cuda"; the same array given twice is moved once."""
    if device not in ("cpu", "cuda"):
        raise ValueError(f"{who}: device must be 'cpu' or 'cuda', got {device!r}")
    move, moved = to_gpu if device == "cuda" else to_cpu, {}

    def move_once(array: Array) -> Array:
        if id(array) not in moved:
            moved[id(array)] = array, move(array)  # holds the array, so that its id is not another's
        return moved[id(array)][1]

    return move_once


def waiter(device: str) -> Callable[[], object]:
    """A function that returns when all work of the device is done."""
    return kernels.get("cuda").xp.cuda.Device().synchronize if device == "cuda" else lambda: None


def is_plain(a: Array) -> bool:
    """Whether kernels take it as it lies: contiguous, and in the computer's memory also aligned and writeable."""
    return bool(a.flags.carray if isinstance(a, np.ndarray) else a.flags.c_contiguous)


def as_plain(a: Array, dtype: np.dtype[Any] | None = None) -> Array:
    """`a` as `is_plain` wants it, in `dtype` if given: itself or a copy."""
    if isinstance(a, np.ndarray):
        return np.require(a, dtype, ["C", "A", "W"])
    a = a if dtype is None else a.astype(dtype, copy=False)
    return a if a.flags.c_contiguous else a.copy()


def address(a: Array) -> int:
    """Where its first element lies."""
    return int(a.__array_interface__["data"][0] if isinstance(a, np.ndarray) else a.data.ptr)
