"""How every CPU kernel is compiled: the flags, the cache. Nowhere else.

Compilation is lazy: a kernel is compiled, or read from the cache, when it is first called with a dtype.
"""

import functools

from numba.core import config, sigutils
from numba.core.compiler_lock import global_compiler_lock

from . import _operators  # noqa: F401
from ._cache import KernelCache, cache_dir
from ._compiler import CKernel, Kernel, Part

if config.DISABLE_JIT:  # Numba's own parts of kernels are no code then
    raise RuntimeError("fastnn: kernels for the CPU must be compiled; unset NUMBA_DISABLE_JIT")

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
