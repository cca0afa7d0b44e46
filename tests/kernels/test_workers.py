"""Work shared out among threads of our own: each part is done once, whoever does it, and nobody waits for ever."""

import ctypes
import os
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numba
import numpy as np
import pytest
from numba import prange, types
from numpy.testing import assert_array_equal

import fastnn
from fastnn.kernels.cpu._compiler import PARALLEL_FOR, Kernel
from fastnn.kernels.cpu._jit import c_function, once
from fastnn.kernels.cpu._memory import call, load, on_stack, store
from fastnn.kernels.cpu._workers import launch_workers

WIDE = 40


def _count_up(args, counts, steps, data):
    """Part number i adds 1 to element i, and notes its other arguments; each takes a while."""
    done, turns, waited = load(data, 0, 0), load(data, 1, 0), 0
    for i in range(load(counts, 0, 0)):
        part, other = load(args, 0, 0) + i * load(steps, 0, 0), load(args, 1, 0) + i * load(steps, 1, 0)
        for turn in range(turns):
            waited += load(data, turn % 2, 0)
        store(done, part, load(done, part, 0) + 1)
        store(done, WIDE + part, other)
        store(done, 2 * WIDE + part, load(counts, 1, 0))
        store(done, 3 * WIDE + part, waited)


def _share_out_again(args, counts, steps, data):
    """Part number i has the fours from 4 · i on counted up, in parallel as well."""
    for i in range(load(counts, 0, 0)):
        first = 4 * (load(args, 0, 0) + i)
        inner = on_stack((load(data, 0, 0) + 8 * first, 0))
        arguments = on_stack((0, 0)), on_stack((4, 9)), on_stack((1, 0)), inner, 1, 2, 2
        call(load(data, 1, 0), load(data, 2, 0), *arguments)


@once
def compiled(function):
    return c_function(types.void(*[types.intp] * 4), function)


def share_out(function, parts, threads, *data):
    """Each part also gets a number, 100, 103, ..., and all get a count of 9."""
    parallel_for = ctypes.CFUNCTYPE(None, *[ctypes.c_ssize_t] * 8)(launch_workers())
    arrays = [np.array(numbers, np.intp) for numbers in ((0, 100), (parts, 9), (1, 3), data)]
    parallel_for(compiled(function).address, *(array.ctypes.data for array in arrays), 1, 2, threads)


def count_up(parts, threads, turns=0):
    done = np.zeros((4, WIDE), np.intp)
    share_out(_count_up, parts, threads, done.ctypes.data, turns)
    return done


@pytest.mark.parametrize("threads", [1, 2, 3, 50])
@pytest.mark.parametrize("parts", [0, 1, 2, 7, WIDE])
@pytest.mark.parametrize("turns", [0, 3000])
def test_each_part_is_done_once_with_its_arguments(parts, threads, turns):
    done = count_up(parts, threads, turns)
    assert_array_equal(done[0], np.arange(WIDE) < parts)
    assert_array_equal(done[1, :parts], 100 + 3 * np.arange(parts))
    assert_array_equal(done[2, :parts], 9)


@pytest.mark.parametrize("pause", [0, 1e-4, 1e-3, 0.02])
def test_threads_that_fell_asleep(pause):
    for _ in range(30):
        time.sleep(pause)
        assert_array_equal(count_up(WIDE, 2, 100)[0], 1)


def test_work_shared_out_within_work():
    done = np.zeros((4, WIDE), np.intp)
    share_out(_share_out_again, 10, 2, done.ctypes.data, launch_workers(), compiled(_count_up).address)
    assert_array_equal(done[0], 1)


def test_several_python_threads_at_once():
    with ThreadPoolExecutor(8) as pool:
        for done in pool.map(lambda turns: count_up(WIDE, 2, turns), [*range(100)] * 20):
            assert_array_equal(done[0], 1)


@pytest.mark.skipif(numba.config.NUMBA_NUM_THREADS < 2, reason="one thread only")
def test_workers_do_their_share():
    launch_workers()
    names = [thread.name for thread in threading.enumerate() if thread.name.startswith("fastnn-")]
    assert sorted(names) == [f"fastnn-{i}" for i in range(1, numba.config.NUMBA_NUM_THREADS)]
    for _ in range(1000):  # the caller does it all where workers have no core
        numbers = np.zeros((WIDE, 1), np.intp)
        share_out(_note_thread, WIDE, 2, numbers.ctypes.data)
        if len(np.unique(numbers)) == 2:
            return
    pytest.fail("all was done by one thread")


_thread_number = types.ExternalFunction("PyThread_get_thread_ident", types.intp())


def _note_thread(args, counts, steps, data):
    for i in range(load(counts, 0, 0)):
        waited = 0
        for turn in range(3000):
            waited += load(data, turn % 1, 0)
        store(load(data, 0, 0), load(args, 0, 0) + i, _thread_number() + 0 * waited)


def _squares(out):
    for i in prange(out.size):
        out[i] = i * i


def test_prange_goes_to_our_threads():
    kernel, out = Kernel(_squares, {"nopython": True, "parallel": True}), np.empty(1000)  # not from the cache
    launch_workers()
    kernel(out)
    assert_array_equal(out, np.arange(1000.0) ** 2)
    (code,) = kernel.inspect_asm().values()
    assert PARALLEL_FOR in code and "numba_parallel_for" not in code


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
def test_a_forked_child_does_all_itself():
    count_up(WIDE, 2)
    child = os.fork()
    if child == 0:
        os._exit(0 if (count_up(WIDE, 2, 1000)[0] == 1).all() else 1)
    assert os.waitpid(child, 0)[1] == 0


END = """
import threading, time
import numpy as np
from fastnn.functions import sigmoid

x = np.zeros((300, 300), "f4")

def compute():
    while True:
        sigmoid(x)

for _ in range(2):
    threading.Thread(target=compute, daemon=True).start()
time.sleep({pause})
print("ok")
"""


@pytest.mark.parametrize("pause", [0, 0.5, 1])
def test_python_may_end_while_threads_compute(pause):
    root = str(Path(fastnn.__file__).resolve().parent.parent)
    code, environment = END.format(pause=pause), {**os.environ, "PYTHONPATH": root}
    for _ in range(3):
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, env=environment, timeout=120
        )
        assert (done.returncode, done.stdout, done.stderr) == (0, "ok\n", "")
