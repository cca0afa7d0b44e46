"""Which device the tests compute on, and how their NumPy arrays get there and back."""

import importlib
import shutil
import sys
from pathlib import Path

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


class OnNumpyArrays:
    """A kernel set for NumPy arrays: each function takes them to the device, computes there, and brings them back.

    They lie in the device's memory as in the host's, with the same strides. All are brought back, so that a test sees
    when a kernel writes into its inputs.
    """

    def __init__(self, device):
        self._device = device

    def __getattr__(self, name):
        function = getattr(self._device, name)

        def on_numpy_arrays(*args):
            there = {id(a): self._to_device(a) for a in args if isinstance(a, np.ndarray)}
            result = function(*(there.get(id(a), a) for a in args))
            for a in args:
                if isinstance(a, np.ndarray) and a.flags.writeable:
                    a[...] = there[id(a)].get()
            return float(result) if isinstance(result, self._device.xp.ndarray) else result

        return on_numpy_arrays

    def _to_device(self, a):
        xp = self._device.xp
        if a.flags.c_contiguous:
            return xp.asarray(a)
        low, high = np.lib.array_utils.byte_bounds(a)
        span = np.lib.stride_tricks.as_strided(a, ((high - low) // a.itemsize,), (a.itemsize,))
        assert all(step >= 0 for step in a.strides)
        return xp.lib.stride_tricks.as_strided(xp.asarray(span.copy()), a.shape, a.strides)
