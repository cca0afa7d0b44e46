"""The array module in use: NumPy, or CuPy while ``config.GPU`` is true (the book's ``common/np.py``).

Both ways of the book work::

    from fastnn.np import *   # gives the name ``np``
    from fastnn import np

Examples
--------
>>> from fastnn import np
>>> float(np.maximum(0.0, -1.5))
0.0
"""

from types import ModuleType
from typing import Any

from . import config, kernels

__all__ = ["np"]  # noqa: F822  (made by __getattr__ below, so that it follows config.GPU)


def _array_module() -> ModuleType:
    xp: ModuleType = kernels.get("cuda" if config.GPU else "cpu").xp
    return xp


def __getattr__(name: str) -> Any:
    if name.startswith("__"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return _array_module() if name == "np" else getattr(_array_module(), name)
