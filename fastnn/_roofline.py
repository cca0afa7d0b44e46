"""What this machine can do at most, measured: `roofline`."""

import dataclasses
import time
from collections.abc import Callable

import numpy as np

from . import kernels
from ._device import waiter

_FAR, _NEAR = 2**26, 2**18  # bytes that a thread copies: far beyond its caches, and within its second-level cache


@dataclasses.dataclass(frozen=True)
class Roofline:
    """The limits of a machine, all threads together.

    Attributes
    ----------
    threads : int
        Of a GPU, its multiprocessors.
    flops : dict of str to float
        Floating-point operations a second of fused multiply-adds, by dtype. Not those of a CPU's matrix unit.
    copy : float
        Bytes a second, read and written, of copying from memory to memory.
    copy_cached : float
        The same within the second-level caches; of a GPU, that from memory again.

    Notes
    -----
    Source: Williams, Waterman, Patterson, Roofline: an insightful visual performance model, CACM 52 (2009).
    """

    threads: int
    flops: dict[str, float]
    copy: float
    copy_cached: float

    def bandwidth(self, nbytes: float) -> float:
        """Bytes a second that may be moved at most when `nbytes` are moved in all: from the caches where they fit."""
        return self.copy_cached if nbytes <= 4 * _NEAR * self.threads else self.copy

    def seconds(self, flops: float, nbytes: float, dtype: str) -> float:
        """The least time for so many operations on so many bytes.

        Examples
        --------
        >>> from fastnn import Roofline
        >>> machine = Roofline(threads=1, flops={"float32": 100e9}, copy=10e9, copy_cached=50e9)
        >>> machine.seconds(flops=2e9, nbytes=1e8, dtype="float32")  # bound by arithmetic
        0.02
        >>> machine.seconds(flops=2e7, nbytes=1e8, dtype="float32")  # bound by memory
        0.01
        """
        return max(flops / self.flops[dtype] if flops else 0.0, nbytes / self.bandwidth(nbytes))


def roofline(device: str = "cpu") -> Roofline:
    """Measure the peak of multiply-adds and the copy bandwidth: with the threads that kernels use, or of the GPU.

    Takes two or three seconds. What else runs on the machine meanwhile lowers the result.

    Parameters
    ----------
    device : {"cpu", "cuda"}

    Returns
    -------
    Roofline

    Examples
    --------
    >>> import fastnn
    >>> machine = fastnn.roofline()
    >>> all(rate > 0 for rate in machine.flops.values()) and machine.copy > 0
    True
    """
    if device == "cuda":
        return _gpu_roofline()
    k, threads = kernels.get("cpu"), kernels.get_num_threads()

    def flops(dtype: str) -> float:
        x, repeats = np.zeros(threads, dtype), 4_000_000
        out = np.empty_like(x)
        return float(k.multiply_adds(x, repeats, out) / _shortest(lambda: k.multiply_adds(x, repeats, out)))

    def copy(nbytes: int, repeats: int) -> float:
        x = np.ones((threads, nbytes // 8))
        out = np.zeros_like(x)
        return 4 * x.nbytes * repeats / _shortest(lambda: k.copy_to_and_fro(x, repeats, out))

    return Roofline(threads, {dtype: flops(dtype) for dtype in ("float32", "float64")}, copy(_FAR, 1), copy(_NEAR, 100))


def _gpu_roofline() -> Roofline:
    k = kernels.get("cuda")
    wait, processors = waiter("cuda"), k.xp.cuda.Device().attributes["MultiProcessorCount"]

    def seconds(call: Callable[[], object]) -> float:
        return _shortest(lambda: (call(), wait()))

    def flops(dtype: str) -> float:
        x, repeats = k.xp.zeros(1024 * processors, dtype), 20_000
        out = k.xp.empty_like(x)
        return float(k.multiply_adds(x, repeats, out) / seconds(lambda: k.multiply_adds(x, repeats, out)))

    x = k.xp.zeros(2**26)
    out = k.xp.zeros_like(x)
    copy = 4 * x.nbytes / seconds(lambda: k.copy_to_and_fro(x, 1, out))
    return Roofline(processors, {dtype: flops(dtype) for dtype in ("float32", "float64")}, copy, copy)


def _shortest(call: Callable[[], object], repeats: int = 20) -> float:
    """Seconds of the fastest call; with rests between, in which whatever else the machine was doing may end.

    What follows a rest is not timed: its threads may be woken on one core, until the system moves one to another.
    """
    seconds = []
    for _ in range(repeats):
        time.sleep(0.01)
        call()
        start = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - start)
    return min(seconds)
