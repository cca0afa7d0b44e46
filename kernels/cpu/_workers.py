"""Threads of our own, to which compiled code gives shares of its work.

`parallel_for` has the arguments of the function that Numba's ``prange`` calls. One share is the caller's; each other is
offered to a worker by what is written into its slot of memory, which it looks at all the time. What a worker has not
begun when the caller has done its own share, the caller does as well. So no call waits for threads that fell asleep,
that another process keeps from their core, or that are not there, as in a forked child.

With OpenMP's threads, which Numba would use, a call takes 1 to 2 µs more, and one that comes some milliseconds after
the last takes a millisecond (here as long as on one thread).
"""

import atexit
import contextlib
import ctypes
import threading

import numpy as np
from llvmlite import binding, ir
from numba import types
from numba.core import config
from numba.extending import intrinsic

from ._atomic import exchange, look, pause, publish, replace
from ._compiler import PARALLEL_FOR
from ._ir import I64
from ._jit import c_function, jit, once
from ._memory import call, load, on_stack, store

# The states of a slot. The caller makes it OPEN; whoever replaces that does the share: a worker, who makes it TAKEN
# until it is done, or the caller. ASLEEP: its worker waits for a lock, and must be woken.
_IDLE, _OPEN, _TAKEN, _ASLEEP = range(4)
# A slot: integers, two cache lines of them since CPUs fetch two. The job is one address, of the caller's arguments.
_STATE, _JOB, _FIRST, _COUNT, _LOCK, _ENDS = range(6)
_SLOT = 16
# The table of all slots begins with another: how many workers there are, whether somebody has given them work, and
# a lock that is never released, to sleep by.
_WORKERS, _BUSY, _NEVER = range(3)
# So often a worker looks before it falls asleep: 0.3 to 0.5 ms, as long as Python may take between two steps of
# training. And so often a caller looks whether a share is done before it gives way to others, who may need its core.
_LOOKS = 10_000
_GIVE_WAY = 50  # µs


_acquire = types.ExternalFunction("PyThread_acquire_lock_timed", types.int32(types.intp, types.int64, types.int32))
_release = types.ExternalFunction("PyThread_release_lock", types.void(types.intp))


@intrinsic
def _words_on_stack(typing, count):
    """The address of so many integers in memory, as long as the function runs."""
    return types.intp(types.intp), lambda context, builder, signature, args: builder.ptrtoint(
        builder.alloca(I64, args[0]), I64
    )


@intrinsic
def _own_word(typing):
    """The address of an integer, 0 at first, that the function in which this stands has for ever."""

    def code(context, builder, signature, args):
        word = ir.GlobalVariable(builder.module, I64, "fastnn_own_word")
        word.linkage, word.initializer = "internal", I64(0)
        return builder.ptrtoint(word, I64)

    return types.intp(), code


@jit
def _field(address, number):
    return load(address, number, 0)


@jit
def _do(job, first, count):
    """`count` parts of a job from the first of these on: in one call, as functions of ``prange`` take any number."""
    function, args, counts, steps = _field(job, 0), _field(job, 1), _field(job, 2), _field(job, 3)
    data, inner_ndim, arrays = _field(job, 4), _field(job, 5), _field(job, 6)
    own_args, own_counts = _words_on_stack(arrays), _words_on_stack(inner_ndim + 1)
    for i in range(arrays):
        store(own_args, i, _field(args, i) + _field(steps, i) * first)
    store(own_counts, 0, count)
    for i in range(inner_ndim):
        store(own_counts, i + 1, _field(counts, i + 1))
    if count > 0:
        call(function, own_args, own_counts, steps, data)


def _parallel_for(function, args, counts, steps, data, inner_ndim, arrays, threads):
    """Call function(args, counts, steps, data) for ``counts[0]`` parts: some of them at a time, by several threads.

    Part number i gets ``args`` + i times ``steps``. All are addresses, but inner_ndim, how many `counts` follow,
    arrays, how many `args`, and threads. Without a function: from now on `args` is the table of workers.
    """
    own_word = _own_word()
    if function == 0:
        store(own_word, 0, args)
        return
    table, parts = _field(own_word, 0), _field(counts, 0)
    shares = max(1, min(parts, threads, 1 + _field(table, _WORKERS)))
    if shares > 1 and not replace(table + 8 * _BUSY, 0, 1):
        shares = 1
    job = on_stack((function, args, counts, steps, data, inner_ndim, arrays))
    for share in range(1, shares):
        slot, first = table + 8 * _SLOT * share, parts * share // shares
        store(slot, _JOB, job)
        store(slot, _FIRST, first)
        store(slot, _COUNT, parts * (share + 1) // shares - first)
        if exchange(slot + 8 * _STATE, _OPEN) == _ASLEEP:
            _release(_field(slot, _LOCK))
    for share in range(shares):
        state, first, looks = table + 8 * (_SLOT * share + _STATE), parts * share // shares, 0
        if share == 0 or replace(state, _OPEN, _IDLE):
            _do(job, first, parts * (share + 1) // shares - first)
            continue
        while look(state) == _TAKEN:
            looks += 1
            if looks < _LOOKS:
                pause()
            else:
                _acquire(_field(table, _NEVER), _GIVE_WAY, 0)
    if shares > 1:
        publish(table + 8 * _BUSY, 0)


def _serve(slot):
    """What a worker does all its life: the shares that its slot offers."""
    state = slot + 8 * _STATE
    while look(slot + 8 * _ENDS) == 0:
        looks = 0
        while look(state) == _IDLE and looks < _LOOKS:
            pause()
            looks += 1
        if replace(state, _OPEN, _TAKEN):
            _do(_field(slot, _JOB), _field(slot, _FIRST), _field(slot, _COUNT))
            publish(state, _IDLE)
        elif replace(state, _IDLE, _ASLEEP):
            _acquire(_field(slot, _LOCK), -1, 0)


@once
def launch_workers():
    """Start them, and make `parallel_for` known to compiled code; returns its address."""
    count = config.NUMBA_NUM_THREADS - 1
    memory = np.zeros(_SLOT * (count + 2), np.int64)
    begin = -memory.ctypes.data // 8 % _SLOT
    table = memory[begin : begin + _SLOT * (count + 1)].reshape(count + 1, _SLOT)
    table[0, _NEVER], table[1:, _LOCK] = _held_lock(), [_held_lock() for _ in range(count)]
    parallel_for = c_function(types.void(*[types.intp] * 8), _parallel_for)
    parallel_for.ctypes(0, table.ctypes.data, 0, 0, 0, 0, 0, 0)
    binding.add_symbol(PARALLEL_FOR, parallel_for.address)
    serve, threads = c_function(types.void(types.intp), _serve), []
    with contextlib.suppress(RuntimeError):  # no more threads to be had, or Python ends: callers do all themselves
        for number, slot in enumerate(table[1:], 1):
            at = (slot.ctypes.data,)
            thread = threading.Thread(target=serve.ctypes, args=at, name=f"fastnn-{number}", daemon=True)
            thread.start()
            threads.append(thread)
    table[0, _WORKERS] = count
    atexit.register(_end, table, threads)
    # For ever: a thread of the user's may compute while Python ends, and frees what it finds.
    ctypes.pythonapi.Py_IncRef(ctypes.py_object((memory, parallel_for, serve)))
    return parallel_for.address


def _held_lock():
    """One of Python's locks, by its address."""
    allocate, acquire = ctypes.pythonapi.PyThread_allocate_lock, ctypes.pythonapi.PyThread_acquire_lock
    allocate.restype, acquire.argtypes = ctypes.c_void_p, (ctypes.c_void_p, ctypes.c_int)
    lock = allocate()
    acquire(lock, 1)
    return lock


def _end(table, threads):
    """Before Python ends: no worker is to look at its slot afterwards."""
    release = ctypes.pythonapi.PyThread_release_lock
    release.argtypes, release.restype = (ctypes.c_void_p,), None
    table[1:, _ENDS] = 1
    for slot, thread in zip(table[1:], threads, strict=False):
        release(int(slot[_LOCK]))
        thread.join(1.0)
