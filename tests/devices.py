"""Which device the tests compute on, and how their NumPy arrays get there and back."""

import importlib
import inspect
import shutil
import sys
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from fastnn import kernels

SIMULATED = Path(__file__).parent / "tools" / "simulated"


def simulate_gpu():
    """From now on ``import cupy`` finds the stand-in. Returns why it cannot compile kernels; empty if it can."""
    if shutil.which("g++") is None:
        return "neither a GPU with CuPy nor g++ to simulate one"
    sys.path.insert(0, str(SIMULATED))
    importlib.invalidate_caches()
    sys.modules.pop("cupy", None)
    kernels.gpu_problem.cache_clear()
    return kernels.gpu_problem()


class _Plan(NamedTuple):
    """What a function made of arrays for others to work on, and these arrays: on the host, and on the device."""

    there: Any
    arrays: dict


class OnNumpyArrays:
    """A kernel set for NumPy arrays: each function takes them to the device, computes there, and brings them back.

    They lie in the device's memory as in the host's, with the same strides. All are brought back, so that a test sees
    when a kernel writes into its inputs. The optimizer's numbers stay on the host.
    """

    def __init__(self, device):
        self._device = device

    def __getattr__(self, name):
        function = getattr(self._device, name)
        names = list(inspect.signature(function).parameters)

        def on_numpy_arrays(*args):
            arrays = {}  # by their identity
            for a in args:
                if isinstance(a, _Plan):
                    arrays |= a.arrays
            for here, there in arrays.values():
                there[...] = self._to_device(here)

            def take(a):
                if isinstance(a, np.ndarray):
                    return arrays.setdefault(id(a), (a, self._to_device(a)))[1]
                return type(a)(map(take, a)) if type(a) in (list, tuple) else a.there if isinstance(a, _Plan) else a

            result = function(*(a if n == "numbers" else take(a) for n, a in zip(names, args, strict=False)))
            for here, there in arrays.values():
                if here.flags.writeable:
                    here[...] = there.get()
            if isinstance(result, self._device.xp.ndarray) and result.ndim == 0:
                return float(result)
            return _Plan(result, arrays) if isinstance(result, (tuple, self._device.xp.ndarray)) else result

        return on_numpy_arrays

    def _to_device(self, a):
        xp = self._device.xp
        if a.flags.c_contiguous:
            return xp.asarray(a)
        low, high = np.lib.array_utils.byte_bounds(a)
        span = np.lib.stride_tricks.as_strided(a, ((high - low) // a.itemsize,), (a.itemsize,))
        assert all(step >= 0 for step in a.strides)
        return xp.lib.stride_tricks.as_strided(xp.asarray(span.copy()), a.shape, a.strides)
