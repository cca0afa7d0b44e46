"""Memory, streams and CUDA graphs of the stand-in for CuPy; as strict as a GPU may be, or stricter.

The null stream does everything at once. Another stream does nothing before somebody waits for it, so that what should
have waited and did not, computes with what was there before. While a stream is captured its work is noted, not done;
allocating, waiting, compiling and copies between host and device are errors then, and so is other streams' work.
Launching the graph does the work on the memory of that moment, which must not have been given back meanwhile. A pool
has only the pieces of memory, by size, that were asked for outside of a capture.
"""

import collections
import contextlib
import ctypes
import itertools
import weakref

import numpy as np

counts = collections.Counter()  # to_host, to_device, launches

_libc = ctypes.CDLL(None)
_libc.posix_memalign.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_size_t]
_libc.free.argtypes = [ctypes.c_void_p]

# ---- memory ---------------------------------------------------------------------------------------------------------


def _obtain(size):
    """The address of memory that begins where CuPy's does and ends where it should: AddressSanitizer sees the end."""
    forbid("more memory")
    address = ctypes.c_void_p()
    if _libc.posix_memalign(ctypes.byref(address), 256, size or 1):
        raise MemoryError
    return address.value


class Memory:
    """A piece of the device's memory. `owner` is what must be there for it to be valid: itself, or its pool."""

    def __init__(self, address, size, pool=None):
        self.address, self.size, self.owner = address, size, weakref.ref(pool or self)
        if pool is None:
            weakref.finalize(self, _libc.free, address)
        else:
            weakref.finalize(self, pool.pieces[size].append, address)

    def bytes(self):
        return np.frombuffer((ctypes.c_byte * self.size).from_address(self.address), np.uint8)


class MemoryPool:
    def __init__(self):
        self.pieces = collections.defaultdict(list)  # that are free: addresses, by size

    def malloc(self, size):
        free = self.pieces[size]
        return Memory(free.pop() if free else _obtain(size), size, self)


_allocators = [lambda size: Memory(_obtain(size), size)]


@contextlib.contextmanager
def using_allocator(allocator):
    _allocators.append(allocator)
    try:
        yield
    finally:
        _allocators.pop()


def allocate(size):
    """Memory that holds NaN, at the time of the stream that asks for it."""
    memory = _allocators[-1](size)
    if size:
        values = memory.bytes()
        do(lambda: values.fill(0xFF), memory)
    return memory


# ---- streams --------------------------------------------------------------------------------------------------------


_streams = weakref.WeakSet()


class Stream:
    null: "Stream"
    _ids = itertools.count()

    def __init__(self, non_blocking=False):
        self.ptr = next(self._ids)
        self.queue, self.done = collections.deque(), 0  # what is to be done; how much was
        self.nodes = None  # of the graph, while it is captured
        _streams.add(self)

    def synchronize(self):
        forbid("waiting")
        counts["to_host"] += 1
        self.run(len(self.queue))

    def run(self, count):
        for _ in range(count):
            self.done += 1
            self.queue.popleft()[0]()

    def record(self, event=None):
        event = event or Event()
        event.stream, event.position = self, self.done + len(self.queue)
        return event

    def wait_event(self, event):
        forbid("waiting for an event")
        if event.stream is not None:
            event.stream.run(max(0, event.position - event.stream.done))

    def begin_capture(self, mode=None):
        if self.ptr == 0:
            raise RuntimeError("cannot capture on the default (legacy) stream")  # as CuPy
        forbid("another capture")
        self.nodes = []
        _captured.append(self)

    def end_capture(self):
        _captured.remove(self)
        nodes, self.nodes = self.nodes, None
        return Graph(nodes)

    def __enter__(self):
        _current.append(self)
        return self

    def __exit__(self, *error):
        _current.pop()


class Event:
    stream, position = None, 0

    def record(self, stream=None):
        (stream or current()).record(self)


class Graph:
    def __init__(self, nodes):
        self._nodes = nodes

    def launch(self, stream=None):
        forbid("launching a graph")
        counts["launches"] += 1
        with stream or current():
            do(self._run)

    def _run(self):
        for node, owners in self._nodes:
            if any(owner() is None for owner in owners):
                raise RuntimeError("graph: works on memory that was given back since it was captured")
            node()


Stream.null = Stream()
_current, _captured = [Stream.null], []


def current():
    return _current[-1]


def at_once():
    """Whether the current stream does its work at once."""
    return current().ptr == 0 and not _captured


def do(work, *memory):
    """Have the current stream do it; with the memory that it is about."""
    stream = current()
    if stream.nodes is not None:
        stream.nodes.append((work, [m.owner for m in memory]))
        return
    forbid("another stream's work")
    if at_once():
        work()
    else:
        stream.queue.append((work, [m.owner() for m in memory]))


def forbid(what):
    if _captured:
        raise RuntimeError(f"{what} while a stream is captured")


def host_waits():
    """For the work of the current stream, as for a copy to the host."""
    forbid("a copy to the host")
    counts["to_host"] += 1
    current().run(len(current().queue))


def synchronize_all():
    forbid("waiting")
    counts["to_host"] += 1
    for stream in list(_streams):
        stream.run(len(stream.queue))
