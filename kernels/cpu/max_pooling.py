"""Maximum over windows of images. Sibling: kernels/ref/max_pooling.py.

out[.., i, j] = max over k < pool_h, l < pool_w of x[.., i · stride + k - pad, j · stride + l - pad]
argmax = k · pool_w + l of that element: of equal ones the first, of NaNs the last      dx[that element] += dout

x, dx: (N, C, H, W); out, dout, argmax: (N, C, OH, OW); contiguous; argmax of an unsigned dtype. Padding is never the
maximum; pad is less than pool_h and pool_w.
"""

import numpy as np
from numba import prange

from ._caches import PAST_CACHES
from ._dtype import zero_of
from ._jit import jit
from ._memory import PAGE_BYTES, address, copy_past_caches, fence, page_on_stack, store
from ._prange import cpu_kernel

_PAIRS = 64  # of rows of dx that are one piece of work

# Rows are addressed by unsigned numbers: signed ones keep Numba's check for indices from the end, and slices count
# references, 12 ns each, more than a row of 12 takes.


@jit
def _halve_rows(x, top, bottom, n, out, argmax, at):
    """n windows of 2 x 2: the rows of x from `top` and `bottom` on into out and argmax from `at` on."""
    for j in range(n):
        j = np.uintp(j)
        left, right = np.uintp(j + j), np.uintp(j + j + np.uintp(1))
        best, place = x[top + left], np.uint8(0)
        a = x[top + right]
        wins = (a > best) | (a != a)
        best, place = a if wins else best, np.uint8(1) if wins else place
        a = x[bottom + left]
        wins = (a > best) | (a != a)
        best, place = a if wins else best, np.uint8(2) if wins else place
        a = x[bottom + right]
        wins = (a > best) | (a != a)
        out[at + j], argmax[at + j] = a if wins else best, np.uint8(3) if wins else place


@cpu_kernel(parallel_above=50_000, flat=True)
def _forward_2x2(x, H, W, out, argmax):
    OH, OW = H // 2, W // 2
    for plane in prange(x.size // (H * W)):
        for i in range(OH):
            top = np.uintp((plane * H + 2 * i) * W)
            _halve_rows(x, top, np.uintp(top + np.uintp(W)), OW, out, argmax, np.uintp((plane * OH + i) * OW))


@cpu_kernel(parallel_above=10_000)
def _forward(x, pool_h, pool_w, stride, pad, out, argmax):
    _, H, W = x.shape
    for plane in prange(x.shape[0]):
        for i in range(out.shape[1]):
            top = i * stride - pad
            for j in range(out.shape[2]):
                left = j * stride - pad
                first_k, first_l = max(0, -top), max(0, -left)
                best, place = x.dtype.type(-np.inf), first_k * pool_w + first_l
                for k in range(first_k, min(pool_h, H - top)):
                    for l in range(first_l, min(pool_w, W - left)):
                        a = x[plane, top + k, left + l]
                        if a > best or a != a:
                            best, place = a, k * pool_w + l
                out[plane, i, j], argmax[plane, i, j] = best, place


@jit
def _double_rows(dout, argmax, at, n, top, bottom):
    """The gradient of `_halve_rows`: n elements of dout into two rows, by their addresses."""
    for j in range(n):
        j = np.uintp(j)
        value, place = dout[at + j], argmax[at + j]
        zero = zero_of(value)
        left, right = np.intp(j + j), np.intp(j + j + np.uintp(1))
        store(top, left, value if place == np.uint8(0) else zero)
        store(top, right, value if place == np.uint8(1) else zero)
        store(bottom, left, value if place == np.uint8(2) else zero)
        store(bottom, right, value if place == np.uint8(3) else zero)


@cpu_kernel(parallel_above=10_000, flat=True)
def _backward_2x2(dout, argmax, H, W, dx):
    """Of even H and W: all elements lie in windows. A large dx goes past the caches, pairs of rows at once."""
    size, OW = dx.itemsize, W // 2
    rows_bytes = 2 * W * size
    pairs = dx.size // (2 * W)
    streams = dx.size * size > PAST_CACHES and rows_bytes <= PAGE_BYTES
    for share in prange((pairs + _PAIRS - 1) // _PAIRS):
        page, share = page_on_stack(), np.intp(share)
        for pair in range(share * _PAIRS, min(pairs, (share + 1) * _PAIRS)):
            to = address(dx) + pair * rows_bytes
            top = page if streams else to
            _double_rows(dout, argmax, np.uintp(pair * OW), OW, top, top + W * size)
            if streams:
                copy_past_caches(to, page, rows_bytes)
        if streams:
            fence()


@cpu_kernel(parallel_above=10_000, flat=True)
def _backward(dout, argmax, pool_h, pool_w, stride, pad, OH, OW, H, W, dx):
    offsets = np.empty(pool_h * pool_w, np.uintp)  # of the places in a window, in dx
    for place in range(offsets.size):
        offsets[place] = np.uintp(place // pool_w * W + place % pool_w)
    for plane in prange(dx.size // (H * W)):
        plane = np.intp(plane)
        for i in range(H * W):
            dx[np.uintp(plane * H * W + i)] = 0
        for i in range(OH):
            row, window = (plane * OH + i) * OW, (plane * H + i * stride - pad) * W - pad
            for j in range(OW):
                at = np.uintp(row + j)
                dx[np.uintp(np.uintp(window + j * stride) + offsets[argmax[at]])] += dout[at]


def _planes(a):
    return a.reshape(-1, *a.shape[2:])


def max_pooling_forward(x, pool_h, pool_w, stride, pad, out, argmax):
    if (pool_h, pool_w, stride, pad) == (2, 2, 2, 0):
        _forward_2x2(x, *x.shape[2:], out, argmax)
    else:
        _forward(_planes(x), pool_h, pool_w, stride, pad, _planes(out), _planes(argmax))


def max_pooling_backward(dout, argmax, pool_h, pool_w, stride, pad, dx):
    H, W = dx.shape[2:]
    if (pool_h, pool_w, stride, pad) == (2, 2, 2, 0) and H % 2 == W % 2 == 0:
        _backward_2x2(dout, argmax, H, W, dx)
    else:
        _backward(dout, argmax, pool_h, pool_w, stride, pad, *dout.shape[2:], H, W, dx)
