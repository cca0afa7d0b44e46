"""The geometry of a convolution by Winograd's algorithm, as numbers, which _convolve_winograd.py follows."""

import math
from typing import NamedTuple

import numpy as np

from ._image_plan import PIXEL_ROWS, ceil_div, record_of
from ._simd import VECTORS

BLOCK_BYTES = 512 * 1024  # of transformed tiles at once
LEAST_CHANNELS, LEAST_TILES, MOST_TILES_A_PIXEL = 32, 128, 2 / 7  # of which it pays; see `pays`
MOST_IN_A_ROW = 1 << 14  # tiles of all channels: a block has at least one row, of 1 MB in float32


class WinogradPlan(NamedTuple):
    """In elements. The gradient for the input is such a convolution too, of dout with the filters turned round."""

    channels: int
    height: int  # of the image
    width: int
    top: int  # padding; negative: so many rows are left out
    left: int
    filters: int
    out_height: int
    out_width: int
    tile_rows: int  # of an image, 2 x 2 outputs each
    tile_columns: int
    block: int  # most rows of tiles that are transformed at once
    row: int  # of transformed tiles: from one channel to the next
    plane: int  # from one of 16 elements of a tile to the next
    panels: int  # of filters
    W_filter: int  # from one filter to the next in W
    W_channel: int
    turned: int  # whether filters are turned round


class WinogradTask(NamedTuple):
    """What its passes must know; see Task in _image_plan.py."""

    images: int  # what a call brings along, up to `memory`
    x: int
    W: int
    out: int
    b: int
    memory: int  # for transformed filters
    no_memory: int
    not_finite: int  # set to 1 if an output is not
    plan: WinogradPlan
    tile: int
    relu: int
    has_bias: int
    terms: int


WINOGRAD_TASK = record_of(WinogradTask)


def suits(W_shape, groups, stride, dilation):
    """Whether the algorithm is one for such filters."""
    return W_shape[2:] == (3, 3) and groups == 1 and stride == dilation == (1, 1)


def pays(images, W_shape, out_size):
    """Whether it is faster than sums over all taps (measured: bench/RESULTS.md).

    Few channels or filters do not pay for the transforms of tiles, few tiles not for those of filters, and a tile that
    an odd height or width leaves half empty costs as much as a whole one. Rows of tiles must fit the cache.
    """
    if min(W_shape[:2]) < LEAST_CHANNELS or max(W_shape[:2]) * ceil_div(out_size[1], 2) > MOST_IN_A_ROW:
        return False
    tiles = math.prod(ceil_div(size, 2) for size in out_size)
    return images * tiles >= LEAST_TILES and tiles <= MOST_TILES_A_PIXEL * math.prod(out_size)


def winograd_plan(image_size, out_size, channels, filters, pad, W_strides, turned, lanes):
    """(WinogradPlan, its table of terms: see _image_tile.py)"""
    line = max(lanes, 64 * lanes // VECTORS.bytes)
    tile_rows, tile_columns = (ceil_div(size, 2) for size in out_size)
    fitting = BLOCK_BYTES * lanes // VECTORS.bytes // (16 * channels) // lanes * lanes
    block = max(1, fitting // tile_columns)
    row = (ceil_div(block * tile_columns, line) | 1) * line  # an odd number of lines: see _gemm.py
    plan = WinogradPlan(
        channels=channels, height=image_size[0], width=image_size[1], top=pad[0], left=pad[1],
        filters=filters, out_height=out_size[0], out_width=out_size[1],
        tile_rows=tile_rows, tile_columns=tile_columns, block=block, row=row, plane=channels * row + line,
        panels=ceil_div(filters, PIXEL_ROWS), W_filter=W_strides[0], W_channel=W_strides[1], turned=int(turned),
    )  # fmt: skip
    terms = np.stack([np.arange(channels) * PIXEL_ROWS, np.arange(channels) * row], axis=1)
    return plan, terms
