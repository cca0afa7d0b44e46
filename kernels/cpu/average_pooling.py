"""Mean over windows of images. Sibling: kernels/ref/average_pooling.py.

out[.., i, j] = sum over k < pool_h, l < pool_w of x[.., i · stride + k - pad, j · stride + l - pad] / (pool_h · pool_w)
dx = each element's share of the dout of all windows it lies in

x, dx: (N, C, H, W); out, dout: (N, C, OH, OW); contiguous, of one dtype, which sums accumulate in. Padding counts as
zeros. A row of windows at a time, and of all its windows one element after the other: loops run over windows.
"""

import numpy as np
from numba import prange

from ._caches import PAST_CACHES
from ._jit import jit
from ._memory import PAGE_BYTES, address, copy_bytes, copy_past_caches, fence, page_on_stack, store
from ._prange import cpu_kernel

_PAIRS = 64  # of rows of dx that are one piece of work


@jit
def _inside(tap, size, stride, pad, count):
    """Of `count` windows the first whose element number `tap` is no padding, and the first after those."""
    return max(0, (pad - tap + stride - 1) // stride), min(count, (size - 1 + pad - tap) // stride + 1)


# Elements are addressed by unsigned numbers: see max_pooling.py. A stride that is known makes vectors.


@jit
def _add_windows(x, start, stride, out, first, end):
    """out[j] += x[start + (j - first) · stride]"""
    n = np.uintp(max(0, end - first))
    first, start, stride = np.uintp(first), np.uintp(start), np.uintp(stride)
    if stride == 1:
        for j in range(n):
            out[first + j] += x[start + j]
    elif stride == 2:
        for j in range(n):
            out[first + j] += x[start + j + j]
    else:
        for j in range(n):
            out[first + j] += x[start + j * stride]


@jit
def _add_to_windows(dout, share, first, end, dx, start, stride):
    """dx[start + (j - first) · stride] += share · dout[j]"""
    n = np.uintp(max(0, end - first))
    first, start, stride = np.uintp(first), np.uintp(start), np.uintp(stride)
    for j in range(n):
        dx[start + j * stride] += share * dout[first + j]


@cpu_kernel(parallel_above=50_000, flat=True)
def _forward_2x2(x, H, W, out):
    OH, OW, share = H // 2, W // 2, x.dtype.type(0.25)
    for plane in prange(x.size // (H * W)):
        for i in range(OH):
            top = np.uintp((plane * H + 2 * i) * W)
            bottom, at = np.uintp(top + np.uintp(W)), np.uintp((plane * OH + i) * OW)
            for j in range(OW):
                j = np.uintp(j)
                left, right = np.uintp(j + j), np.uintp(j + j + np.uintp(1))
                out[at + j] = (x[top + left] + x[top + right] + x[bottom + left] + x[bottom + right]) * share


@cpu_kernel(parallel_above=20_000, flat=True)
def _forward(x, H, W, pool_h, pool_w, stride, pad, OH, OW, out):
    share = x.dtype.type(1 / (pool_h * pool_w))
    for plane in prange(out.size // (OH * OW)):
        plane = np.intp(plane)
        for i in range(OH):
            row, top = (plane * OH + i) * OW, i * stride - pad
            for j in range(row, row + OW):
                out[np.uintp(j)] = 0
            for k in range(max(0, -top), min(pool_h, H - top)):
                for l in range(pool_w):
                    first, end = _inside(l, W, stride, pad, OW)
                    start = (plane * H + top + k) * W + first * stride + l - pad
                    _add_windows(x, start, stride, out, row + first, row + end)
            for j in range(row, row + OW):
                out[np.uintp(j)] *= share


@jit
def _double_row(dout, share, at, n, to):
    """Each of n elements of dout twice, into a row by its address."""
    for j in range(n):
        j = np.uintp(j)
        value = share * dout[at + j]
        store(to, np.intp(j + j), value)
        store(to, np.intp(j + j + np.uintp(1)), value)


@cpu_kernel(parallel_above=10_000, flat=True)
def _backward_2x2(dout, H, W, dx):
    """Of even H and W, as in max_pooling.py."""
    share, size, OW = dx.dtype.type(0.25), dx.itemsize, W // 2
    row_bytes, pairs = W * size, dx.size // (2 * W)
    streams = dx.size * size > PAST_CACHES and 2 * row_bytes <= PAGE_BYTES
    for piece in prange((pairs + _PAIRS - 1) // _PAIRS):
        page, piece = page_on_stack(), np.intp(piece)
        for pair in range(piece * _PAIRS, min(pairs, (piece + 1) * _PAIRS)):
            to = address(dx) + 2 * pair * row_bytes
            row = page if streams else to
            _double_row(dout, share, np.uintp(pair * OW), OW, row)
            copy_bytes(row + row_bytes, row, row_bytes)
            if streams:
                copy_past_caches(to, page, 2 * row_bytes)
        if streams:
            fence()


@cpu_kernel(parallel_above=10_000, flat=True)
def _backward(dout, H, W, pool_h, pool_w, stride, pad, OH, OW, dx):
    share = dx.dtype.type(1 / (pool_h * pool_w))
    for plane in prange(dx.size // (H * W)):
        plane = np.intp(plane)
        for j in range(plane * H * W, (plane + 1) * H * W):
            dx[np.uintp(j)] = 0
        for i in range(OH):
            row, top = (plane * OH + i) * OW, i * stride - pad
            for k in range(max(0, -top), min(pool_h, H - top)):
                for l in range(pool_w):
                    first, end = _inside(l, W, stride, pad, OW)
                    start = (plane * H + top + k) * W + first * stride + l - pad
                    _add_to_windows(dout, share, row + first, row + end, dx, start, stride)


def average_pooling_forward(x, pool_h, pool_w, stride, pad, out):
    H, W = x.shape[2:]
    if (pool_h, pool_w, stride, pad) == (2, 2, 2, 0):
        _forward_2x2(x, H, W, out)
    else:
        _forward(x, H, W, pool_h, pool_w, stride, pad, *out.shape[2:], out)


def average_pooling_backward(dout, pool_h, pool_w, stride, pad, dx):
    H, W = dx.shape[2:]
    if (pool_h, pool_w, stride, pad) == (2, 2, 2, 0) and H % 2 == W % 2 == 0:
        _backward_2x2(dout, H, W, dx)
    else:
        _backward(dout, H, W, pool_h, pool_w, stride, pad, *dout.shape[2:], dx)
