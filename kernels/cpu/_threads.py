"""The threads that run parallel kernels."""

import contextlib
import os


def load_openmp():
    """Load Numba's OpenMP layer so that its waiting threads soon give way.

    After a parallel region GNU OpenMP's threads wait by spinning, for milliseconds. Where another process wants the
    core that one of them should work on, the others spin meanwhile on the core it could move to: a region of 9 µs
    was seen to take 480 µs, and 7 ms. With a spin count of 5,000, about 0.1 ms, it took 130 µs; fewer would let threads
    fall asleep, and cost 30-80 µs to wake, between the steps of a training loop. OpenMP reads the setting once, when
    it is loaded, so it is set for that moment only; never over a user's own settings.
    """
    if any(name.startswith(("OMP_", "GOMP_", "KMP_")) for name in os.environ):
        return
    os.environ["GOMP_SPINCOUNT"] = "5000"
    try:
        with contextlib.suppress(ImportError):  # a Numba without OpenMP has other layers
            from numba.np.ufunc import omppool  # noqa: F401
    finally:
        del os.environ["GOMP_SPINCOUNT"]
