"""Filters over images where few filters, or few terms a sum, would waste what _convolve.py does: stride 1 only.

Vectors run over the pixels of a padded image, row after row as one, the rows of a register tile over filters. Nothing
needs transposing, but the padding between rows is computed, too, and left out when the rows are copied to the output.
"""

import numpy as np
from numba import prange

from ._convolve import _ALIGNMENT, TERM_BYTES
from ._gemm import _round_up
from ._image_plan import COLUMNS, FIRST_ROW, OUT_AT, ROW_TERMS, ROWS, TAP_ROWS, TERMS_AT
from ._image_tile import copy_row
from ._jit import jit, parallel_twin
from ._tile import TILE_ROWS, address, call, itemsize, keep, lanes, load, store, zero_of

STRIPE_PIXELS = 1024  # of outputs that lie in the cache before they are copied, if a row has no more


@jit
def pack_rows(to, W, b, places, first, count, plan, group, one):
    """Of `count` filters: the bias, a row of a tile for each; then the weights, a column for each term."""
    size, width = itemsize(one), 2 * lanes(one)
    for i in range(count):
        f = first + i
        for j in range(width):
            store(to, i * width + j, b[group * plan.filters + f] if b.size > 0 else zero_of(one))
        W_f = address(W) + (group * plan.W_group + f * plan.W_filter) * size
        for k in range(places.size):
            store(to, (width + k) * TILE_ROWS + i, load(W_f, places[k], one))


@jit
def copy_planes(to, image, plan, one):
    """A group of channels of an image with zeros all round."""
    size = itemsize(one)
    for c in range(plan.channels):
        for row in range(plan.first_row, plan.last_row + 1):
            end = plan.left + plan.width if row >= 0 and row < plan.height else plan.left
            source = image + ((c * plan.height + row) * plan.width - plan.left) * size
            copy_row(to, source, plan.left, end, plan.pitch, one)
            to += plan.pitch * size


@jit
def store_rows(to, source, rows, columns, plan, one):
    """Copy rows of outputs, which lie plan.pitch apart."""
    size = itemsize(one)
    for y in range(rows):
        row, row_to = source + y * plan.pitch * size, to + y * plan.out_row * size
        if plan.out_column == 1:
            copy_row(row_to, row, 0, columns, columns, one)
        else:
            for x in range(columns):
                store(row_to, x * plan.out_column, load(row, x, one))


def _convolve_planes(tile, plan, phases, terms, places, x, W, b, floor, out, threads):
    size, width = x.itemsize, 2 * lanes(floor)
    panels = (plan.filters + TILE_ROWS - 1) // TILE_ROWS
    panel_bytes = (width + places.size) * TILE_ROWS * size
    memory = np.empty(plan.groups * panels * panel_bytes + _ALIGNMENT, np.uint8)
    packed = _round_up(address(memory), _ALIGNMENT)
    for part in prange(plan.groups * panels):
        first = plan.filters * (part % panels) // panels
        count = plan.filters * (part % panels + 1) // panels - first
        pack_rows(packed + part * panel_bytes, W, b, places, first, count, plan, part // panels, floor)

    stripe = max(1, STRIPE_PIXELS // plan.pitch)
    # An odd number of cache lines: rows multiples of 4 KB apart would displace each other.
    tiles_row = (_round_up(min(stripe, plan.out_rows) * plan.pitch, width) // width * 2 + 1) * width // 2
    rows = plan.last_row - plan.first_row + 1
    copy_bytes = _round_up((plan.channels * rows * plan.pitch + width) * size, _ALIGNMENT)
    scratch = np.empty((threads, copy_bytes + TILE_ROWS * tiles_row * size + _ALIGNMENT), np.uint8)
    jobs = x.shape[0] * plan.groups
    for part in prange(threads):
        copy = _round_up(address(scratch[part]), _ALIGNMENT)
        tiles = copy + copy_bytes
        for job in range(jobs * part // threads, jobs * (part + 1) // threads):
            group = job % plan.groups
            copy_planes(copy, address(x) + job * plan.channels * plan.height * plan.width * size, plan, floor)
            for number in range(len(phases)):
                phase = phases[number]
                depth = phase[TAP_ROWS] * phase[ROW_TERMS]
                phase_terms = address(terms) + phase[TERMS_AT] * TERM_BYTES
                for y0 in range(0, phase[ROWS], stripe):
                    y1 = min(y0 + stripe, phase[ROWS])
                    pixels = (y1 - y0 - 1) * plan.pitch + phase[COLUMNS]
                    start = copy + (phase[FIRST_ROW] - plan.first_row + y0) * plan.pitch * size
                    for panel in range(panels):
                        first = plan.filters * panel // panels
                        count = plan.filters * (panel + 1) // panels - first
                        bias = packed + (group * panels + panel) * panel_bytes
                        weights = bias + (width * TILE_ROWS + phase[TERMS_AT] * TILE_ROWS) * size
                        for p in range(0, pixels, width):
                            call(
                                tile, count, 1 if pixels - p <= lanes(floor) else 2, depth, weights, 1,
                                start + p * size, phase_terms, tiles + p * size, tiles_row, bias, width, floor,
                            )  # fmt: skip
                        at = (job * plan.filters + first) * plan.out_plane + phase[OUT_AT] + y0 * plan.out_row
                        for i in range(count):
                            store_rows(
                                address(out) + (at + i * plan.out_plane) * size, tiles + i * tiles_row * size,
                                y1 - y0, phase[COLUMNS], plan, floor,
                            )  # fmt: skip
    keep(memory)
    keep(scratch)


_serial, _parallel = jit(_convolve_planes), parallel_twin(_convolve_planes)
