"""The gradients of a convolution for its weights and bias.

Vectors run over filters, the rows of a register tile over channels (or taps), and its sums over the pixels of a stripe
of the output, whose gradient is transposed before. Jobs are chunks of images times panels of filters; how many chunks,
the shapes decide, and they are added up in order: the result does not depend on the number of threads.
"""

import numpy as np
from numba import prange

from ._convolve import _ALIGNMENT, band_rows, copied_rows, copy_rows, most_copied_rows, panel_width, panels_of
from ._gemm import _round_up, _transpose
from ._jit import jit, parallel_twin
from ._tile import TILE_ROWS, address, call, infinity_of, itemsize, keep, lanes, load, one_element, store, zero_of

JOBS = 16  # at least, if there are so many images: threads share them


@jit
def stripe_weights(tile, plan, taps, terms, y0, y1, copy, copied, dout, vectors, sums, one):
    """Add to `sums` what rows y0..y1 of the outputs contribute: each tap and channel, then the bias.

    copy: the image's rows from `copied` on. dout: (pixels, filters).
    """
    size, floor, width = itemsize(one), -infinity_of(one), vectors * lanes(one)
    row_bytes = plan.channels * plan.pitch * size
    highest = 2 * TILE_ROWS // vectors
    tiles = (taps.run + highest - 1) // highest
    height, taller = taps.run // tiles, taps.run % tiles
    for r in range(taps.rows):
        shift = plan.first_row + r * taps.row_step  # output row y sees row y · row_step + shift of the image
        first = max(y0, (-shift + plan.row_step - 1) // plan.row_step)
        end = min(y1, (plan.height - 1 - shift) // plan.row_step + 1)
        if first >= end:
            continue
        depth = (end - first) * plan.out_columns
        row = copy + (first * plan.row_step + shift - copied) * row_bytes
        gradient = dout + (first - y0) * plan.out_columns * width * size
        for o in range(taps.runs):
            i = 0
            for number in range(tiles):
                h = height + 1 if number < taller else height
                to = sums + ((r * taps.runs + o) * taps.run + i) * width * size
                place = row + (o * taps.runs_step + i * taps.run_step) * size
                call(tile, h, vectors, depth, place, taps.run_step, gradient, terms, to, width, to, width, floor)
                i += h


@jit
def weights_jobs(tile, plan, taps, terms, terms_of_bias, x, dout, all_sums, sums_bytes, chunks, band, first, end, one):
    """Some jobs, each of a chunk of bands of images, and a panel of filters."""
    size, panels, widest = x.itemsize, panels_of(plan.filters, one), 2 * lanes(one)
    rows = taps.rows * taps.runs * taps.run
    bands = (plan.out_rows + band - 1) // band
    units = x.shape[0] * bands
    copy_bytes = _round_up(most_copied_rows(plan, band) * plan.channels * plan.pitch * size, _ALIGNMENT)
    pixels = _round_up(terms.shape[1], lanes(one))
    scratch = np.empty(copy_bytes + pixels * widest * size + _ALIGNMENT, np.uint8)
    copy = _round_up(address(scratch), _ALIGNMENT)
    turned = copy + copy_bytes
    for job in range(first, end):
        chunk, group, panel = job // panels // plan.groups, job // panels % plan.groups, job % panels
        width = panel_width(panel, plan.filters, one)
        filters, vectors = min(width, plan.filters - panel * widest), width // lanes(one)
        sums = all_sums + job * sums_bytes
        for i in range((rows + 1) * width):
            store(sums, i, zero_of(one))
        for unit in range(units * chunk // chunks, units * (chunk + 1) // chunks):
            n, y0 = unit // bands, unit % bands * band
            y1 = min(plan.out_rows, y0 + band)
            first_row, end_row = copied_rows(plan, y0, y1)
            image = address(x) + (n * plan.groups + group) * plan.channels * plan.height * plan.width * size
            copy_rows(copy, image, first_row, end_row, plan, one)
            plane = (n * plan.groups + group) * plan.filters + panel * widest
            for s0 in range(y0, y1, taps.stripe):
                s1 = min(s0 + taps.stripe, y1)
                source = address(dout) + (plane * plan.out_plane + s0 * plan.out_columns) * size
                count = (s1 - s0) * plan.out_columns
                _transpose(turned, width, source, plan.out_plane, filters, count, one)
                stripe_weights(
                    tile, plan, taps, address(terms[vectors - 1]), s0, s1, copy, first_row, turned, vectors, sums, one
                )
                to = sums + rows * width * size
                call(
                    tile, 1, vectors, count, one_element(one), 0, turned, address(terms_of_bias[vectors - 1]),
                    to, width, to, 0, -infinity_of(one),
                )  # fmt: skip
    keep(scratch)


@jit
def add_up(plan, taps, all_sums, sums_bytes, chunks, group, panel, dW, db, one):
    """The chunks' sums for a panel of filters, in order, to where they belong."""
    panels, widest = panels_of(plan.filters, one), 2 * lanes(one)
    rows = taps.rows * taps.runs * taps.run
    width = panel_width(panel, plan.filters, one)
    sums = all_sums + (group * panels + panel) * sums_bytes
    for chunk in range(1, chunks):
        more = sums + chunk * plan.groups * panels * sums_bytes
        for i in range((rows + 1) * width):
            store(sums, i, load(sums, i, one) + load(more, i, one))
    channels_run = taps.run_step == plan.pitch
    for f in range(min(width, plan.filters - panel * widest)):
        filter_ = group * plan.filters + panel * widest + f
        db[filter_] = load(sums, rows * width + f, one)
        for r in range(taps.rows):
            for o in range(taps.runs):
                for i in range(taps.run):
                    value = load(sums, ((r * taps.runs + o) * taps.run + i) * width + f, one)
                    if channels_run:
                        dW[filter_, i, r, o] = value
                    else:
                        dW[filter_, o, r, i] = value


def _weights(tile, plan, taps, terms, terms_of_bias, x, dout, dW, db, one, threads):
    panels = panels_of(plan.filters, one)
    band = band_rows(plan, x.shape[0], JOBS, one)
    units = x.shape[0] * ((plan.out_rows + band - 1) // band)
    chunks = min(units, (JOBS + plan.groups * panels - 1) // (plan.groups * panels))
    jobs = chunks * plan.groups * panels
    sums_bytes = (taps.rows * taps.runs * taps.run + 1) * 2 * lanes(one) * x.itemsize  # the last row: for the bias
    memory = np.empty(jobs * sums_bytes + _ALIGNMENT, np.uint8)
    sums = _round_up(address(memory), _ALIGNMENT)
    for part in prange(threads):
        first, end = jobs * part // threads, jobs * (part + 1) // threads
        weights_jobs(tile, plan, taps, terms, terms_of_bias, x, dout, sums, sums_bytes, chunks, band, first, end, one)
    for part in prange(plan.groups * panels):
        add_up(plan, taps, sums, sums_bytes, chunks, part // panels, part % panels, dW, db, one)
    keep(memory)


_serial, _parallel = jit(_weights), parallel_twin(_weights)
