"""The threads that run parallel kernels."""

import contextlib
import os


def load_openmp():
    """Load Numba's OpenMP layer so that its waiting threads soon give way.

    After a parallel region GNU OpenMP's threads spin for milliseconds. Alone on the machine that is fine; beside one
    busy process the next region, 6 µs of work, was seen to take 12 ms, and 4 µs with a spin count of 20,000. OpenMP
    reads the setting once, when it is loaded, so it is set for that moment only; never over a user's own settings.
    """
    if any(name.startswith(("OMP_", "GOMP_", "KMP_")) for name in os.environ):
        return
    os.environ["GOMP_SPINCOUNT"] = "20000"
    try:
        with contextlib.suppress(ImportError):  # a Numba without OpenMP has other layers
            from numba.np.ufunc import omppool  # noqa: F401
    finally:
        del os.environ["GOMP_SPINCOUNT"]
