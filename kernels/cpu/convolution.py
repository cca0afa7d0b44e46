"""Convolution, by register tiles over images as they are. Sibling: kernels/ref/convolution.py.

out[n,f,y,x] = b[f] + sum_crs x[n, c, y·stride + r·dilation - pad, x·stride + s·dilation - pad] · W[f,c,r,s]
convolution_relu: max(that, 0)      dx, dW, db: its gradients; x outside of the image is 0

x, dx: (N, C, H, W); W, dW: (F, C/groups, KH, KW); b, db: (F,); out, dout: (N, F, OH, OW); all contiguous, of one
dtype, float32 or float64, which sums accumulate in. stride, pad, dilation: pairs (vertical, horizontal). The groups
follow from the shapes. Georganas et al., Anatomy of High-Performance Deep Learning Convolutions, SC18.
Of 3 x 3, stride and dilation 1, with many channels: by Winograd's algorithm, which see in _convolve_winograd.py.
"""

import functools
from typing import Any, NamedTuple

import numpy as np
from numba import from_dtype, types

from .._threads import limit
from . import _convolve, _convolve_planes, _convolve_weights, _convolve_winograd
from ._caches import LINE_BYTES, round_up
from ._image_plan import PIXEL_ROWS, TASK, WEIGHTS_TASK, Task, WeightsTask, backward_plan, forward_plan, weights_plan
from ._image_tile import compiled_image_tile
from ._jit import c_function, entry, once
from ._memory import address
from ._parts import in_parts
from ._simd import VECTORS
from ._winograd_plan import WINOGRAD_TASK, WinogradTask, pays, suits, winograd_plan
from ._workers import launch_workers

# Multiply-adds from which waking the threads pays (measured: bench/RESULTS.md).
PARALLEL_ABOVE = 400_000


@entry
def _two_passes(first, second, task, x, W, out, b, memory, one, threads):
    """Complete a task, then have both passes done, by C functions of (task, part, parts, one) that do a share of it."""
    brought = x.shape[0], address(x), address(W), address(out), address(b), round_up(address(memory), LINE_BYTES)
    no_memory = len(brought)
    for i in range(no_memory):
        task[i] = brought[i]
    in_parts(threads, threads, first, (address(task),), (threads, one))
    in_parts(threads, threads, second, (address(task),), (threads, one))
    if task[no_memory] != 0:
        raise MemoryError("fastnn: no memory for the scratch of a convolution")


class _Prepared(NamedTuple):
    """What is found once for each geometry and dtype."""

    first: int  # addresses of the passes
    second: int
    task: np.ndarray
    memory: int  # bytes
    kept: Any  # of which the task has addresses


def _prepared(passes, task, record, elements, dtype, kept):
    launch_workers()
    numbers = np.array(task, record).reshape(1).view(np.int64)
    memory = elements * np.dtype(dtype).itemsize + LINE_BYTES
    return _Prepared(*(_compiled(f, record, dtype).address for f in passes), numbers, memory, kept)


@once
def _compiled(function, record, dtype):
    """A pass over tasks that are such records; `one` is a 1 of the dtype."""
    real = {"f": types.float32, "d": types.float64}[dtype]
    return c_function(types.void(types.CPointer(from_dtype(record)), types.intp, types.intp, real), function)


def _lanes(dtype):
    return VECTORS.bytes // np.dtype(dtype).itemsize


def _prepare(plan, tables, dtype, has_bias, relu):
    task = Task(
        *[0] * 7,
        plan=plan,
        tile=compiled_image_tile(dtype, bool(plan.in_planes)).address,
        relu=int(relu),
        has_bias=int(has_bias),
        phases=tables.phases.ctypes.data,
        phase_count=len(tables.phases),
        terms=tables.terms.ctypes.data,
        term_count=len(tables.places),
        places=tables.places.ctypes.data,
        shifts=tables.shifts.ctypes.data,
    )
    loops, rows = (_convolve_planes, PIXEL_ROWS) if plan.in_planes else (_convolve, 2 * _lanes(dtype))
    elements = plan.groups * plan.panels * (1 + len(tables.places)) * rows
    return _prepared((loops.pack, loops.convolve), task, TASK, elements, dtype, tables)


@functools.lru_cache(maxsize=64)
def _forward_task(relu, dtype, *geometry):
    return _prepare(*forward_plan(*geometry, _lanes(dtype)), dtype, True, relu)


@functools.lru_cache(maxsize=64)
def _backward_task(dtype, *geometry):
    return _prepare(*backward_plan(*geometry, _lanes(dtype)), dtype, False, False)


@functools.lru_cache(maxsize=64)
def _weights_task(dtype, *geometry):
    plan, taps, tables = weights_plan(*geometry, _lanes(dtype))
    task = WeightsTask(
        *[0] * 7,
        plan=plan,
        taps=taps,
        tile=compiled_image_tile(dtype).address,
        terms=tables.terms.ctypes.data,
        terms_of_bias=tables.terms_of_bias.ctypes.data,
        term_count=tables.terms.shape[1],
        places=tables.places.ctypes.data,
        place_count=len(tables.places),
    )
    jobs = _convolve_weights.most_chunks(plan) * plan.groups * plan.panels
    elements = jobs * (len(tables.places) + 1) * 2 * _lanes(dtype)
    passes = _convolve_weights.sum_up, _convolve_weights.add_up
    return _prepared(passes, task, WEIGHTS_TASK, elements, dtype, tables)


@functools.lru_cache(maxsize=64)
def _winograd_task(relu, turned, dtype, image_size, W_shape, pad, out_size):
    F, C, KH, KW = W_shape
    channels, filters, strides = (F, C, (KH * KW, C * KH * KW)) if turned else (C, F, (C * KH * KW, KH * KW))
    plan, terms = winograd_plan(image_size, out_size, channels, filters, pad, strides, turned, _lanes(dtype))
    task = WinogradTask(
        *[0] * 8,
        plan=plan,
        tile=compiled_image_tile(dtype, True).address,
        relu=int(relu),
        has_bias=int(not turned),
        terms=terms.ctypes.data,
    )
    passes = _convolve_winograd.transform_filters, _convolve_winograd.convolve
    elements = plan.panels * (2 + 16 * channels) * PIXEL_ROWS
    return _prepared(passes, task, WINOGRAD_TASK, elements, dtype, terms)


def _run(prepared, work, x, *arrays):
    first, second, task, memory, _ = prepared
    task = task.copy()
    args = first, second, task, x, *arrays, np.empty(memory, np.uint8), x.dtype.type(1)
    _two_passes(*args, limit.threads if work > PARALLEL_ABOVE else 1)
    return task


def _run_winograd(prepared, work, *arrays):
    """Whether all outputs are finite: if not, they are to be computed directly."""
    task = _run(prepared, work, *arrays)
    return not task.view(WINOGRAD_TASK)["not_finite"].any()


def _forward(x, W, b, stride, pad, dilation, out, relu):
    groups, out_size, work = x.shape[1] // W.shape[1], out.shape[2:], out.size * W[0].size
    if suits(W.shape, groups, stride, dilation) and pays(len(x), W.shape, out_size):
        prepared = _winograd_task(relu, False, x.dtype.char, x.shape[2:], W.shape, pad, out_size)
        if _run_winograd(prepared, work, x, W, out, b):
            return
    geometry = x.shape[2:], W.shape, groups, stride, pad, dilation, out_size
    _run(_forward_task(relu, x.dtype.char, *geometry), work, x, W, out, b)


def convolution_forward(x, W, b, stride, pad, dilation, out):
    _forward(x, W, b, stride, pad, dilation, out, False)


def convolution_relu_forward(x, W, b, stride, pad, dilation, out):
    _forward(x, W, b, stride, pad, dilation, out, True)


def convolution_backward_input(dout, W, stride, pad, dilation, dx):
    groups, out_size, work = dx.shape[1] // W.shape[1], dout.shape[2:], dout.size * W[0].size
    no_bias = np.empty(0, dx.dtype)
    if suits(W.shape, groups, stride, dilation) and pays(len(dx), W.shape, dx.shape[2:]):
        beside = 2 - pad[0], 2 - pad[1]
        prepared = _winograd_task(False, True, dx.dtype.char, out_size, W.shape, beside, dx.shape[2:])
        if _run_winograd(prepared, work, dout, W, dx, no_bias):
            return
    geometry = dx.shape[2:], W.shape, groups, stride, pad, dilation, out_size
    _run(_backward_task(dx.dtype.char, *geometry), work, dout, W, dx, no_bias)


def convolution_backward_params(x, dout, stride, pad, dilation, dW, db):
    geometry = x.shape[2:], dW.shape, x.shape[1] // dW.shape[1], stride, pad, dilation, dout.shape[2:]
    _run(_weights_task(x.dtype.char, *geometry), dout.size * dW[0].size, x, dout, dW, db)
