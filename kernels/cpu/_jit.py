"""How every CPU kernel is compiled: the flags, the cache, the parallel twin. Nowhere else.

Compilation is lazy: a kernel is compiled, or read from the cache, when it is first called with a dtype.
"""

import functools
import types

import numpy as np
from numba.core import config, sigutils
from numba.core.compiler_lock import global_compiler_lock

from . import _operators  # noqa: F401
from ._cache import KernelCache, cache_dir
from ._compiler import CKernel, Kernel, Part
from ._threads import claim_threads, load_openmp, release_threads

if config.DISABLE_JIT:  # Numba's own parts of kernels are no code then
    raise RuntimeError("fastnn: kernels for the CPU must be compiled; unset NUMBA_DISABLE_JIT")
load_openmp()

# No kernel is compiled with fast-math flags: every operation is as it is written, rounded as in NumPy. With flags LLVM
# decides, anew wherever it compiles a function: for a kernel and for its parallel twin, for a loop's vectors and its
# last elements. Sums that should become vectors: _reduce.py. Products to be fused: `fma` in _math.py.
_OPTIONS = {"nopython": True, "error_model": "numpy"}


def jit(function):
    """A part of kernels: what only compiled code calls."""
    return Part(function, _OPTIONS)


def entry(function, **options):
    """A kernel that Python calls, with our cache; releases the GIL."""
    kernel = Kernel(function, {**_OPTIONS, "nogil": True, **options})
    if cache_dir() is not None:
        kernel._cache = KernelCache(function)
    return kernel


def c_function(signature, function):
    """Compile `function` now, with our cache, to be called by its ``address`` from other kernels. See `once`.

    What `jit` makes is compiled again for each kernel that calls it; this is compiled once.
    """
    args, result = sigutils.normalize_signature(signature)
    kernel = CKernel(function, (args, result), _OPTIONS)
    if cache_dir() is not None:
        kernel._cache = KernelCache(function)
    kernel.compile()
    return kernel


def once(make):
    """`make`, called once with the same arguments: what it returns, others may know by its address for ever.

    Threads that come meanwhile wait. (With `functools.cache` each would make one, and all but the last be freed.) They
    wait for Numba's own lock, which those hold who compile: with two locks, two threads could wait for each other.
    """
    made = {}

    @functools.wraps(make)
    def made_once(*args):
        if args not in made:
            with global_compiler_lock:
                if args not in made:
                    made[args] = make(*args)
        return made[args]

    return made_once


def parallel_twin(function):
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
        serial, parallel = entry(loop), parallel_twin(loop)

        @functools.wraps(loop)
        def kernel(*args):
            first = args[0]
            if flat and first.ndim != 1:
                args = [a.ravel() if isinstance(a, np.ndarray) else a for a in args]
            if first.size > parallel_above and claim_threads() > 1:
                try:
                    return parallel(*args)
                finally:
                    release_threads()
            return serial(*args)

        return kernel

    return decorate
