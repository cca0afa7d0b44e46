"""Filters over images where vectors run over pixels, as _image_plan.py describes them: stride 1 only.

Each thread copies some rows of each channel, padded, to scratch memory that fits the second-level cache. There they are
one long row of pixels, over which vectors run; the rows of a register tile run over filters. Nothing needs transposing:
the pixels between two rows, padding, are computed, too, and masks leave them out when a tile is stored.
"""

import numpy as np
from numba import prange

from ._convolve import _ALIGNMENT
from ._gemm import _round_up
from ._image_plan import PIXEL_ROWS, PIXEL_VECTORS
from ._image_tile import copy_row
from ._jit import jit, parallel_twin
from ._tile import address, call, itemsize, keep, lanes, load, store, zero_of


@jit
def pack_rows(to, W, b, places, first, count, plan, group, one):
    """Of `count` filters: the biases, then a column of weights for each term."""
    size = itemsize(one)
    for i in range(count):
        f = first + i
        store(to, i, b[group * plan.filters + f] if b.size > 0 else zero_of(one))
        W_f = address(W) + (group * plan.W_group + f * plan.W_filter) * size
        for k in range(places.size):
            store(to, (1 + k) * PIXEL_ROWS + i, load(W_f, places[k], one))


@jit
def copy_planes(to, image, first, rows, plan, one):
    """Rows of a group of channels of an image, from number `first` on, with zeros beside, above and below."""
    size = itemsize(one)
    for c in range(plan.channels):
        for i in range(rows):
            row = first + i
            end = plan.left + plan.width if row >= 0 and row < plan.height else plan.left
            source = image + ((c * plan.height + row) * plan.width - plan.left) * size
            copy_row(to + (c * plan.copied_rows + i) * plan.pitch * size, source, plan.left, end, plan.pitch, one)


def _convolve_planes(tile, plan, pieces, terms, places, x, W, b, floor, out, threads):
    size, width = x.itemsize, PIXEL_VECTORS * lanes(floor)
    panels = (plan.filters + PIXEL_ROWS - 1) // PIXEL_ROWS
    panel_bytes = (1 + places.size) * PIXEL_ROWS * size
    memory = np.empty(plan.groups * panels * panel_bytes + _ALIGNMENT, np.uint8)
    packed = _round_up(address(memory), _ALIGNMENT)
    for part in range(plan.groups * panels):
        first = plan.filters * (part % panels) // panels
        count = plan.filters * (part % panels + 1) // panels - first
        pack_rows(packed + part * panel_bytes, W, b, places, first, count, plan, part // panels, floor)

    margin = plan.copied_rows - plan.band
    images = x.shape[0] * plan.groups
    bands = max((plan.out_rows + plan.band - 1) // plan.band, (threads + images - 1) // images)
    band = (plan.out_rows + bands - 1) // bands
    bands = (plan.out_rows + band - 1) // band
    copied = plan.channels * plan.copied_rows * plan.pitch
    # A tile may read so much more, whose sums are not stored.
    copy_bytes = _round_up((copied + width) * size, _ALIGNMENT)
    scratch = np.empty((threads, copy_bytes + _ALIGNMENT), np.uint8)
    jobs = images * bands
    for part in prange(threads):
        copy = _round_up(address(scratch[part]), _ALIGNMENT)
        for i in range(copy_bytes // size):  # memory as it comes may hold numbers that are slow to multiply
            store(copy, i, zero_of(floor))
        for job in range(jobs * part // threads, jobs * (part + 1) // threads):
            y0, image = job % bands * band, job // bands
            rows = min(band, plan.out_rows - y0)
            group = image % plan.groups
            source = address(x) + image * plan.channels * plan.height * plan.width * size
            copy_planes(copy, source, plan.first_row + y0, rows + margin, plan, floor)
            pixels = (rows - 1) * plan.pitch + plan.out_columns
            result = address(out) + (image * plan.filters * plan.out_plane + y0 * plan.out_row) * size
            for p in range(0, pixels, width):
                vectors = min(PIXEL_VECTORS, (pixels - p + lanes(floor) - 1) // lanes(floor))
                for panel in range(panels):
                    first = plan.filters * panel // panels
                    count = plan.filters * (panel + 1) // panels - first
                    bias = packed + (group * panels + panel) * panel_bytes
                    call(
                        tile, count, vectors, places.size, bias + PIXEL_ROWS * size, copy + p * size, address(terms),
                        result + first * plan.out_plane * size, plan.out_plane, bias,
                        address(pieces) + p // lanes(floor) * pieces.shape[1] * 16, pieces.shape[1], pixels - p, floor,
                    )  # fmt: skip
    keep(memory)
    keep(scratch)


_serial, _parallel = jit(_convolve_planes), parallel_twin(_convolve_planes)
