"""Work of the GPU that is the same each time, recorded and launched as a whole: CUDA graphs, through CuPy."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from . import kernels
from ._device import Array


class Recording:
    """What a function has the GPU do: the first call does it and records it, later ones launch the recording.

    The function is to do the same each time, with arrays that lie where they lay: only their values may change, and
    numbers that are to change must be in arrays. It waits for nothing, moves nothing between host and device, and
    returns an array. What it allocates is memory that nothing else gets.
    """

    def __init__(self, function: Callable[[], Array]) -> None:
        self._function = function
        self._cuda = kernels.get("cuda").xp.cuda
        self._pool = self._cuda.MemoryPool()
        self._graph: Any = None
        self._result: Any = None  # where the graph writes it

    def __call__(self) -> Array:
        """Do it, on the current stream; returns a copy of what the function returned."""
        if self._graph is None:
            return self._begin()
        self._graph.launch()
        return self._result.copy()

    def _begin(self) -> Array:
        """Do it for once, by which kernels are compiled and memory is obtained; then record it.

        On a stream of its own: CUDA records no stream that all share, and CuPy keeps free memory by stream.
        """
        current, own = self._cuda.get_current_stream(), self._cuda.Stream(non_blocking=True)
        own.wait_event(current.record())
        with self._in_own_memory(own):
            result = self._function()
        current.wait_event(own.record())
        first = result.copy()
        del result  # its memory is for the recording
        with self._in_own_memory(own):
            own.begin_capture()
            try:
                self._result = self._function()
            finally:
                graph = own.end_capture()
        self._graph = graph
        return first

    @contextmanager
    def _in_own_memory(self, stream: Any) -> Iterator[None]:
        with self._cuda.using_allocator(self._pool.malloc), stream:
            yield
