"""Filters over images where vectors run over pixels, as _image_plan.py describes them: steps of one pixel only.

Each thread copies some rows of each channel, padded, to scratch memory that fits the second-level cache. There they are
one long row of pixels, over which vectors run; the rows of a register tile run over filters. Nothing needs transposing:
the pixels between two rows, padding, are computed, too, and masks leave them out when a tile is stored. Where there are
several phases, each is computed for as many pixels as the largest has, and spread over the output from scratch memory.
"""

import numpy as np
from numba import prange

from ._convolve import _ALIGNMENT, TERM_BYTES
from ._gemm import _round_up
from ._image_plan import (
    COLUMNS,
    FIRST_ROW,
    OUT_AT,
    PIXEL_ROWS,
    PIXEL_VECTORS,
    ROW_TERMS,
    ROWS,
    TAP_ROWS,
    TERMS_AT,
)
from ._image_tile import copy_row
from ._jit import jit, parallel_twin
from ._tile import address, call, itemsize, keep, lanes, load, store, zero_of

PIECE_BYTES = 16


@jit
def panels_of(plan):
    return (plan.filters + PIXEL_ROWS - 1) // PIXEL_ROWS


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


@jit
def convolve_rows(tile, plan, phase, pieces, terms, copy, rows, packed, to, to_plane, floor):
    """Rows of a phase's outputs, to one plane for each filter."""
    size, width = itemsize(floor), PIXEL_VECTORS * lanes(floor)
    panels, piece_count = panels_of(plan), pieces.shape[1]
    start = copy + (phase[FIRST_ROW] - plan.first_row) * plan.pitch * size
    depth, phase_terms = phase[TAP_ROWS] * phase[ROW_TERMS], address(terms) + phase[TERMS_AT] * TERM_BYTES
    pixels = (rows - 1) * plan.pitch + plan.out_columns
    for p in range(0, pixels, width):
        vectors = min(PIXEL_VECTORS, (pixels - p + lanes(floor) - 1) // lanes(floor))
        p_pieces = address(pieces) + p // lanes(floor) * piece_count * PIECE_BYTES
        for panel in range(panels):
            first = plan.filters * panel // panels
            count = plan.filters * (panel + 1) // panels - first
            bias = packed + panel * PIXEL_ROWS * size * (1 + terms.shape[1])
            weights = bias + (1 + phase[TERMS_AT]) * PIXEL_ROWS * size
            call(
                tile, count, vectors, depth, weights, start + p * size, phase_terms, to + first * to_plane * size,
                to_plane, bias, p_pieces, piece_count, pixels - p, floor,
            )  # fmt: skip


@jit
def spread_rows(out, sums, sums_plane, phase, rows, plan, one):
    """Rows of a phase's outputs to their places, which lie apart."""
    size = itemsize(one)
    for f in range(plan.filters):
        for y in range(rows):
            to = out + (f * plan.out_plane + y * plan.out_row) * size
            source = sums + (f * sums_plane + y * plan.out_columns) * size
            for x in range(phase[COLUMNS]):
                store(to, x * plan.out_column, load(source, x, one))


@jit
def convolve_jobs(tile, plan, phases, pieces, terms, x, packed, group_bytes, band, first_job, end_job, floor, out):
    """Some jobs, each a band of rows of a group of an image."""
    if first_job >= end_job:
        return
    size, one_phase = x.itemsize, len(phases) == 1
    bands = (plan.out_rows + band - 1) // band
    margin = plan.copied_rows - plan.band
    # The last tile may read so much more, for sums that are not stored.
    copied = plan.channels * plan.copied_rows * plan.pitch + PIXEL_VECTORS * lanes(floor)
    sums_plane = 0 if one_phase else band * plan.out_columns
    scratch = np.empty((copied + plan.filters * sums_plane) * size + _ALIGNMENT, np.uint8)
    copy = _round_up(address(scratch), _ALIGNMENT)
    sums = copy + copied * size
    for i in range(copied):  # memory as it comes may hold subnormal numbers, which are slow
        store(copy, i, zero_of(floor))
    for job in range(first_job, end_job):
        y0, image = job % bands * band, job // bands
        rows, group = min(band, plan.out_rows - y0), image % plan.groups
        source = address(x) + image * plan.channels * plan.height * plan.width * size
        copy_planes(copy, source, plan.first_row + y0, rows + margin, plan, floor)
        result = address(out) + (image * plan.filters * plan.out_plane + y0 * plan.out_row) * size
        weights = packed + group * group_bytes
        for number in range(len(phases)):
            phase = phases[number]
            if one_phase:
                convolve_rows(
                    tile, plan, phase, pieces, terms, copy, rows, weights, result, plan.out_plane, floor
                )  # fmt: skip
            else:
                convolve_rows(tile, plan, phase, pieces, terms, copy, rows, weights, sums, sums_plane, floor)
                here = min(rows, phase[ROWS] - y0)
                spread_rows(result + phase[OUT_AT] * size, sums, sums_plane, phase, here, plan, floor)
    keep(scratch)


def _convolve_planes(tile, plan, phases, pieces, terms, places, x, W, b, floor, out, threads):
    panels = panels_of(plan)
    panel_bytes = (1 + places.size) * PIXEL_ROWS * x.itemsize
    memory = np.empty(plan.groups * panels * panel_bytes, np.uint8)
    packed = address(memory)
    for part in range(plan.groups * panels):
        first = plan.filters * (part % panels) // panels
        count = plan.filters * (part % panels + 1) // panels - first
        pack_rows(packed + part * panel_bytes, W, b, places, first, count, plan, part // panels, floor)

    images = x.shape[0] * plan.groups
    bands = max((plan.out_rows + plan.band - 1) // plan.band, (threads + images - 1) // images)
    band = (plan.out_rows + bands - 1) // bands
    jobs = images * ((plan.out_rows + band - 1) // band)
    for part in prange(threads):
        first_job, end_job = jobs * part // threads, jobs * (part + 1) // threads
        convolve_jobs(
            tile, plan, phases, pieces, terms, x, packed, panels * panel_bytes, band, first_job, end_job, floor, out
        )  # fmt: skip
    keep(memory)


_serial, _parallel = jit(_convolve_planes), parallel_twin(_convolve_planes)
