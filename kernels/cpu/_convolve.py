"""Filters over images, as _image_plan.py describes them: forward passes, and gradients for the input.

Each thread copies some rows of an image, padded, to scratch memory that fits the second-level cache. Vectors run over
filters, the rows of a register tile over the pixels of one row of outputs: so no width, stride or padding wastes lanes.
What a tile leaves, (pixels, filters), is transposed in the first-level cache on its way to the output.
"""

import numpy as np
from numba import prange
from numba.extending import register_jitable

from ._gemm import _round_up, _transpose
from ._image_plan import COLUMNS, FIRST_ROW, OUT_AT, ROW_TERMS, ROWS, STRIPE_PIXELS, TAP_ROW, TAP_ROWS, TERMS_AT
from ._image_tile import copy_row
from ._jit import jit, parallel_twin
from ._tile import TILE_ROWS, address, call, itemsize, keep, lanes, load, store, zero_of

TERM_BYTES = 16
COPY_BYTES = 512 * 1024  # of rows copied at once
_ALIGNMENT = 64
_inline = register_jitable(inline="always")


@_inline
def panels_of(filters, one):
    """Panels of two vectors of filters; where one is enough for the last, it has one."""
    return (filters + 2 * lanes(one) - 1) // (2 * lanes(one))


@_inline
def panel_width(panel, filters, one):
    return lanes(one) if filters - panel * 2 * lanes(one) <= lanes(one) else 2 * lanes(one)


@jit
def pack_filters(to, W, b, places, panel, plan, group, one):
    """A panel's bias, then its weights term by term: rows of one value for each filter, and zeros to fill vectors."""
    size, width, zero = itemsize(one), panel_width(panel, plan.filters, one), zero_of(one)
    first = panel * 2 * lanes(one)
    for i in range(width):
        f = first + i
        if f < plan.filters:
            store(to, i, b[group * plan.filters + f] if b.size > 0 else zero)
            W_f = address(W) + (group * plan.W_group + f * plan.W_filter) * size
            for k in range(places.size):
                store(to, (1 + k) * width + i, load(W_f, places[k], one))
        else:
            for k in range(1 + places.size):
                store(to, k * width + i, zero)


@jit
def copy_rows(to, image, first, end, plan, one):
    """Rows first..end of a group of channels of an image, as the plan has them."""
    size = itemsize(one)
    for c in range(plan.channels):  # along the image as it lies in memory
        for row in range(first, end):
            source = image + ((c * plan.height + row) * plan.width - plan.left) * size
            target = to + ((row - first) * plan.channels + c) * plan.pitch * size
            copy_row(target, source, plan.left, plan.left + plan.width, plan.pitch, one)


@jit
def store_stripe(out, tiles, turned, turned_row, filters, width, rows, columns, plan, one):
    """Transpose (rows · columns pixels, width filters) to where the filters' planes of the output have their rows."""
    size, pixels = itemsize(one), rows * columns
    _transpose(turned, turned_row, tiles, width, pixels, width, one)
    for f in range(filters):
        to, source = out + f * plan.out_plane * size, turned + f * turned_row * size
        if plan.out_row == columns:
            copy_row(to, source, 0, pixels, pixels, one)
        elif plan.out_column == 1:
            for y in range(rows):
                copy_row(to + y * plan.out_row * size, source + y * columns * size, 0, columns, columns, one)
        else:
            for y in range(rows):
                for x in range(columns):
                    store(to, y * plan.out_row + x * plan.out_column, load(source, y * columns + x, one))


@jit
def convolve_row(tile, plan, phase, y, terms, copy, copied, packed, vectors, to, floor):
    """One row of a phase's outputs for a panel of filters: (columns, filters) values.

    copy: the image's rows from `copied` on. packed: see `pack_filters`.
    """
    size, columns = itemsize(floor), phase[COLUMNS]
    top = phase[FIRST_ROW] + y * plan.row_step
    tap_row, taps_end = phase[TAP_ROW], phase[TAP_ROWS]
    taps_first = (-top + tap_row - 1) // tap_row if top < 0 else 0
    if top + (taps_end - 1) * tap_row >= plan.height:
        taps_end = (plan.height - 1 - top) // tap_row + 1 if top < plan.height else 0
    depth = max(taps_end - taps_first, 0) * phase[ROW_TERMS]
    width = vectors * lanes(floor)
    weights = packed + (1 + phase[TERMS_AT] + taps_first * phase[ROW_TERMS]) * width * size
    place = copy + (top + taps_first * tap_row - copied) * plan.channels * plan.pitch * size
    # Tiles of equal height, or one row more: a last tile of few rows would be slow.
    highest = 2 * TILE_ROWS // vectors
    tiles = (columns + highest - 1) // highest
    height, taller = columns // tiles, columns % tiles
    x = 0
    for number in range(tiles):
        h = height + 1 if number < taller else height
        call(
            tile, h, vectors, depth, place + x * plan.column_step * size, plan.column_step, weights, terms,
            to + x * width * size, width, packed, 0, floor,
        )  # fmt: skip
        x += h


@_inline
def stripe_rows(columns):
    return max(1, STRIPE_PIXELS // columns)


@_inline
def copied_rows(plan, y0, y1):
    """The image's rows that rows y0..y1 of outputs see, in all phases."""
    last = plan.last_row + (y1 - plan.out_rows) * plan.row_step
    return max(0, plan.first_row + y0 * plan.row_step), min(plan.height, last + 1)


@_inline
def most_copied_rows(plan, band):
    """An upper bound of their number, for any `band` rows of outputs."""
    return min(plan.height, plan.last_row - plan.first_row + 1 - (plan.out_rows - band) * plan.row_step)


@_inline
def band_rows(plan, images, jobs, one):
    """How many rows of outputs share a copy of the image's rows: it fits the cache, and there are enough jobs."""
    margin = plan.last_row - plan.first_row - (plan.out_rows - 1) * plan.row_step
    fitting = COPY_BYTES // (plan.channels * plan.pitch * itemsize(one)) - margin
    bands = (jobs + images * plan.groups - 1) // (images * plan.groups)
    return max(1, min(fitting // plan.row_step, (plan.out_rows + bands - 1) // bands))


@jit
def convolve_jobs(tile, plan, phases, terms, x, packed, panel_bytes, band, first_job, end_job, floor, out):
    """Some jobs, each a band of rows of a group of an image. (Inside of `prange` this would take Numba far longer.)"""
    size, panels = x.itemsize, panels_of(plan.filters, floor)
    bands = (plan.out_rows + band - 1) // band
    copy_bytes = _round_up(most_copied_rows(plan, band) * plan.channels * plan.pitch * size, _ALIGNMENT)
    pixels = _round_up(stripe_rows(plan.out_columns) * plan.out_columns, lanes(floor))
    turned_row = (pixels // lanes(floor) | 1) * lanes(floor)
    tiles_bytes = pixels * 2 * lanes(floor) * size
    scratch = np.empty(copy_bytes + tiles_bytes + 2 * lanes(floor) * turned_row * size + _ALIGNMENT, np.uint8)
    copy = _round_up(address(scratch), _ALIGNMENT)
    tiles = copy + copy_bytes
    turned = tiles + tiles_bytes
    for job in range(first_job, end_job):
        y0 = job % bands * band
        y1 = min(plan.out_rows, y0 + band)
        group = job // bands % plan.groups
        n = job // bands // plan.groups
        first, end = copied_rows(plan, y0, y1)
        image = address(x) + (n * plan.groups + group) * plan.channels * plan.height * plan.width * size
        result = address(out) + (n * plan.groups + group) * plan.filters * plan.out_plane * size
        copy_rows(copy, image, first, end, plan, floor)
        for number in range(len(phases)):
            phase = phases[number]
            columns = phase[COLUMNS]
            stripe = stripe_rows(columns)
            for panel in range(panels):
                width = panel_width(panel, plan.filters, floor)
                panel_terms = address(terms[width // lanes(floor) - 1]) + phase[TERMS_AT] * TERM_BYTES
                filters = min(width, plan.filters - panel * 2 * lanes(floor))
                weights = packed + (group * panels + panel) * panel_bytes
                for s0 in range(y0, min(y1, phase[ROWS]), stripe):
                    s1 = min(s0 + stripe, y1, phase[ROWS])
                    for y in range(s0, s1):
                        convolve_row(
                            tile, plan, phase, y, panel_terms, copy, first, weights,
                            width // lanes(floor), tiles + (y - s0) * columns * width * size, floor,
                        )  # fmt: skip
                    at = panel * 2 * lanes(floor) * plan.out_plane + phase[OUT_AT] + s0 * plan.out_row
                    store_stripe(
                        result + at * size, tiles, turned, turned_row, filters, width, s1 - s0, columns, plan, floor
                    )
    keep(scratch)


def _convolve(tile, plan, phases, terms, places, x, W, b, floor, out, threads):
    panels = panels_of(plan.filters, floor)
    panel_bytes = (1 + places.size) * 2 * lanes(floor) * x.itemsize
    memory = np.empty(plan.groups * panels * panel_bytes + _ALIGNMENT, np.uint8)
    packed = _round_up(address(memory), _ALIGNMENT)
    for part in prange(plan.groups * panels):
        pack_filters(packed + part * panel_bytes, W, b, places, part % panels, plan, part // panels, floor)

    band = band_rows(plan, x.shape[0], threads, floor)
    jobs = x.shape[0] * plan.groups * ((plan.out_rows + band - 1) // band)
    for part in prange(threads):
        first, end = jobs * part // threads, jobs * (part + 1) // threads
        convolve_jobs(tile, plan, phases, terms, x, packed, panel_bytes, band, first, end, floor, out)
    keep(memory)


_serial, _parallel = jit(_convolve), parallel_twin(_convolve)
