"""Convolution: see kernels/ref/convolution.py. All arrays contiguous, of one dtype; no columns of images are stored."""

import math

import cupy

from ._launch import kernel

_COLUMNS = 128  # as in convolution.cu: results of a tile, and its filters, of which a kernel has the more the faster
_FILTERS = (8, 32, 64)
_TILE = 64  # of gradients
_BLOCKS = 512  # fill any GPU; where there are fewer tiles of gradients, blocks share out the pixels
_LEAST_PIXELS = 512  # of a share


def convolution_forward(x, W, b, stride, pad, dilation, out):
    _forward(x, W, b, False, stride, pad, dilation, out)


def convolution_relu_forward(x, W, b, stride, pad, dilation, out):
    _forward(x, W, b, True, stride, pad, dilation, out)


def _forward(x, W, b, relu, stride, pad, dilation, out):
    F, channels, KH, KW = W.shape
    axes = [
        (size, -p, s, taps, d, results, 0, 1, results)
        for size, p, s, taps, d, results in zip(
            x.shape[2:], pad, stride, (KH, KW), dilation, out.shape[2:], strict=True
        )
    ]
    filters = F * channels // x.shape[1]
    weights = W, W[:filters].size, channels * KH * KW, KH * KW, KW, 1
    _convolve(x, channels, weights, b, relu, filters, *axes, out)


def convolution_backward_input(dout, W, stride, pad, dilation, dx):
    F, channels, KH, KW = W.shape
    filters = F * channels // dx.shape[1]
    # Rows of dx with one remainder modulo the stride have the same taps, and columns: a launch for each two remainders.
    vertical, horizontal = (
        [_backward_axis(*sizes, remainder) for remainder in range(min(sizes[3], sizes[1]))]
        for sizes in zip(dout.shape[2:], dx.shape[2:], (KH, KW), stride, pad, dilation, strict=True)
    )
    for row, row_step, down in vertical:
        for column, column_step, across in horizontal:
            taps = W[:, :, row:, column:], W[:filters].size, KH * KW, channels * KH * KW, row_step * KW, column_step
            some = filters if row < KH and column < KW else 0  # without taps: zeros
            _convolve(dout, some, taps, 0, False, channels, down, across, dx)


def _backward_axis(size, results, taps, stride, pad, dilation, remainder):
    """First tap, step of taps, and the Axis of convolution.cu: for results of one remainder modulo the stride."""
    step = stride // math.gcd(stride, dilation)
    first = next((r for r in range(min(step, taps)) if (remainder + pad - r * dilation) % stride == 0), taps)
    reads = size, (remainder + pad - first * dilation) // stride, 1, max(1, -(-(taps - first) // step))
    writes = -(-(results - remainder) // stride), remainder, stride, results
    return first, step, (*reads, -step * dilation // stride, *writes)


def _convolve(x, channels, weights, b, relu, filters, vertical, horizontal, out):
    if out.size == 0:
        return
    rows = next((n for n in _FILTERS if n >= filters), _FILTERS[-1])
    pixels = out.shape[0] * vertical[5] * horizontal[5]
    grid = -(-pixels // _COLUMNS), -(-filters // rows), out.shape[1] // filters
    kernel("convolution", f"convolve_{rows}", scalar=x.dtype)(
        grid, (128,), (x, channels, *weights, b, relu, filters, pixels, *vertical, *horizontal, out)
    )


def convolution_backward_params(x, dout, stride, pad, dilation, dW, db):
    F, channels, KH, KW = dW.shape
    groups = x.shape[1] // channels
    filters, taps, pixels = F // groups, channels * KH * KW, dout.size // F
    tiles = -(-taps // _TILE), -(-filters // _TILE)
    parts = max(1, min(_BLOCKS // (math.prod(tiles) * groups), pixels // _LEAST_PIXELS))
    found = cupy.empty((parts, dW.size + F), x.dtype) if parts > 1 else None
    sizes = channels, filters, KH, KW, *x.shape[2:], *dout.shape[2:], *stride, *pad, *dilation, pixels, parts
    outputs = (0, dW, db) if found is None else (found.shape[1], found, found[0, dW.size :])
    kernel("convolution", "convolve_gradients", scalar=x.dtype)(
        (*tiles, groups * parts), (256,), (x, dout, *sizes, *outputs)
    )
    if found is not None:
        kernel("convolution", "sum_parts", scalar=x.dtype)(
            (-(-found.shape[1] // 256),), (256,), (found, parts, dW.size, found.shape[1], dW, db)
        )
