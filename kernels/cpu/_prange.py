"""Kernels that are a loop over ``prange``, each compiled twice: for one thread, and for several."""

import functools
import types

import numpy as np

from .._threads import limit
from ._jit import entry
from ._workers import launch_workers


def _parallel_twin(function):
    """`function`, its ``prange`` loops spread over the threads.

    Under a name of its own: Numba's cache knows functions by name, and would hand out one twin for the other.
    """
    twin = types.FunctionType(
        function.__code__, function.__globals__, f"{function.__name__}_parallel", function.__defaults__
    )
    twin.__qualname__ = f"{function.__qualname__}_parallel"
    twin.__module__ = function.__module__
    return entry(twin, parallel=True)


def cpu_kernel(parallel_above, flat=False):
    """Make a kernel of a loop over ``prange``: serial for small work, parallel above.

    Parameters
    ----------
    parallel_above : int
        Elements of the first array above which waking the threads pays (measured: bench/RESULTS.md).
    flat : bool
        Elementwise: hand the loop its arrays, which may have any shape, as one-dimensional views. (Not by reshape in
        the loop's function: parallel, Numba 0.68 then drops writes to outputs, which it does not see behind the views.)
    """

    def decorate(loop):
        serial, parallel = entry(loop), _parallel_twin(loop)

        @functools.wraps(loop)
        def kernel(*args):
            first = args[0]
            if flat and first.ndim != 1:
                args = [a.ravel() if isinstance(a, np.ndarray) else a for a in args]
            if first.size > parallel_above and limit.threads > 1:
                launch_workers()
                return parallel(*args)
            return serial(*args)

        return kernel

    return decorate
