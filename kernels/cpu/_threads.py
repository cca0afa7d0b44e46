"""The threads that run parallel kernels, and who may use them when.

One parallel call at a time in a process: a call that comes from another Python thread meanwhile runs the serial kernel,
with the same result. Numba's ``workqueue`` layer would abort the process at a second call, and with OpenMP each calling
thread would get a team of its own, more threads than cores. A forked child runs serial kernels only: it has no threads,
and OpenMP ends it at its first parallel region.
"""

import contextlib
import functools
import os
import threading

from llvmlite import binding

from .._threads import limit

_in_use = threading.Lock()


def claim_threads():
    """How many threads a call may use. Where it is more than 1, `release_threads` must follow the call."""
    threads = limit.threads  # not numba.get_num_threads(), which takes 0.6 µs
    return threads if threads > 1 and _in_use.acquire(blocking=False) else 1


release_threads = _in_use.release


def on_threads(kernel, *args):
    """kernel(*args, threads), with as many threads as are to be had."""
    threads = claim_threads()
    try:
        return kernel(*args, threads)
    finally:
        if threads > 1:
            release_threads()


@functools.cache
def launch_threads():
    """Start Numba's threads, and make the function known by which they are given work."""
    from numba.np.ufunc.parallel import _launch_threads

    _launch_threads()


@functools.cache
def parallel_for():
    """The address of the function by which Numba's ``prange`` shares out work, whatever the threading layer.

    parallel_for(part, args, counts, steps, work, 0, 1, threads): calls part(args, counts, steps, work) on the threads
    with counts[0] parts from args[0] on, which goes up by steps[0]. To do so oneself saves what ``prange`` prepares: a
    region takes 0.8 instead of 1.9 µs.
    """
    launch_threads()
    return binding.address_of_symbol("numba_parallel_for")


def load_openmp():
    """Load Numba's OpenMP layer so that its waiting threads soon give way.

    After a parallel region GNU OpenMP's threads wait by spinning, for milliseconds. Where another process wants the
    core that one of them should work on, the others spin meanwhile on the core it could move to: a region of 9 µs
    was seen to take 7 ms. With a spin count of 20,000, about 0.3 ms, it took 0.5 ms. Fewer would let threads fall
    asleep between the steps of a training loop: with 5,000 a pause of 0.1 ms makes the next region of 6 µs take 40.
    OpenMP reads the setting once, when it is loaded, so it is set for that moment only; never over a user's own.
    """
    if any(name.startswith(("OMP_", "GOMP_", "KMP_")) for name in os.environ):
        return
    os.environ["GOMP_SPINCOUNT"] = "20000"
    try:
        with contextlib.suppress(ImportError):  # a Numba without OpenMP has other layers
            from numba.np.ufunc import omppool  # noqa: F401
    finally:
        del os.environ["GOMP_SPINCOUNT"]
