"""The gradients of a convolution for its weights and bias.

Vectors run over filters, the rows of a register tile over channels (or taps), and its sums over the pixels of a stripe
of the output, whose gradient is transposed before. Jobs are chunks of images times panels of filters; how many chunks,
the shapes decide, and they are added up in order: the result does not depend on the number of threads.
"""

from numba import carray

from ._caches import LINE_BYTES, round_up
from ._convolve import TERM_BYTES, copied_rows, copy_rows, panel_width
from ._dtype import infinity_of, itemsize, lanes, zero_of
from ._image_plan import band_rows, ceil_div
from ._jit import jit
from ._memory import allocate, call, free, load, one_element, store
from ._simd import VECTORS
from ._transpose import transpose_matrix

JOBS = 16  # at least, if there are so many images: threads share them


@jit
def most_chunks(plan):
    return ceil_div(JOBS, plan.groups * plan.panels)


@jit
def chunks_of(plan, images):
    """Chunks of bands, each with sums of its own."""
    return min(most_chunks(plan), images * ceil_div(plan.out_rows, band_rows(plan, images, JOBS)))


@jit
def stripe_weights(tile, plan, taps, terms, y0, y1, copy, copied, dout, vectors, sums, one):
    """Add to `sums` what rows y0..y1 of the outputs contribute: each tap and channel, then the bias.

    copy: the image's rows from `copied` on. dout: (pixels, filters).
    """
    size, floor, width = itemsize(one), -infinity_of(one), vectors * lanes(one)
    row_bytes = plan.channels * plan.pitch * size
    highest = VECTORS.tile_sums // vectors
    tiles = ceil_div(taps.run, highest)
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


def sum_up(task, part, parts, one):
    """A share of the jobs, each of a chunk of bands of images, and a panel of filters: to its own sums."""
    task = carray(task, 1)[0]
    plan, taps = task.plan, task.taps
    size, widest, floor = itemsize(one), 2 * lanes(one), -infinity_of(one)
    rows, panels, chunks = task.place_count, plan.panels, chunks_of(plan, task.images)
    band = band_rows(plan, task.images, JOBS)
    bands = ceil_div(plan.out_rows, band)
    units, jobs = task.images * bands, chunks * plan.groups * panels
    scratch = allocate((plan.copy_size + plan.pixels * widest) * size + LINE_BYTES)
    if scratch == 0:
        task.no_memory = 1
        return
    copy = round_up(scratch, LINE_BYTES)
    turned = copy + plan.copy_size * size
    for job in range(jobs * part // parts, jobs * (part + 1) // parts):
        chunk, group, panel = job // panels // plan.groups, job // panels % plan.groups, job % panels
        width = panel_width(panel, plan.filters, one)
        filters, vectors = min(width, plan.filters - panel * widest), width // lanes(one)
        table = (vectors - 1) * task.term_count * TERM_BYTES
        sums = task.memory + job * (rows + 1) * widest * size
        for i in range((rows + 1) * width):
            store(sums, i, zero_of(one))
        for unit in range(units * chunk // chunks, units * (chunk + 1) // chunks):
            n, y0 = unit // bands, unit % bands * band
            y1 = min(plan.out_rows, y0 + band)
            first_row, end_row = copied_rows(plan, y0, y1)
            image = task.x + (n * plan.groups + group) * plan.channels * plan.height * plan.width * size
            copy_rows(copy, image, first_row, end_row, plan, one)
            plane = (n * plan.groups + group) * plan.filters + panel * widest
            for s0 in range(y0, y1, taps.stripe):
                s1 = min(s0 + taps.stripe, y1)
                source = task.dout + (plane * plan.out_plane + s0 * plan.out_columns) * size
                count = (s1 - s0) * plan.out_columns
                transpose_matrix(turned, width, source, plan.out_plane, filters, count, one)
                stripe_weights(
                    task.tile, plan, taps, task.terms + table, s0, s1, copy, first_row, turned, vectors, sums, one
                )
                to = sums + rows * width * size
                call(
                    task.tile, 1, vectors, count, one_element(one), 0, turned, task.terms_of_bias + table,
                    to, width, to, 0, floor,
                )  # fmt: skip
    free(scratch)


@jit
def add_up_panel(task, group, panel, one):
    """The chunks' sums for a panel of filters, in order, to where they belong."""
    plan, size, widest = task.plan, itemsize(one), 2 * lanes(one)
    rows, width = task.place_count, panel_width(panel, plan.filters, one)
    job_bytes = (rows + 1) * widest * size
    sums = task.memory + (group * plan.panels + panel) * job_bytes
    for chunk in range(1, chunks_of(plan, task.images)):
        more = sums + chunk * plan.groups * plan.panels * job_bytes
        for i in range((rows + 1) * width):
            store(sums, i, load(sums, i, one) + load(more, i, one))
    for f in range(min(width, plan.filters - panel * widest)):
        filter_ = group * plan.filters + panel * widest + f
        store(task.db, filter_, load(sums, rows * width + f, one))
        dW = task.dW + filter_ * plan.W_filter * size
        for i in range(rows):
            store(dW, load(task.places, i, 0), load(sums, i * width + f, one))


def add_up(task, part, parts, one):
    """A share of the panels."""
    task = carray(task, 1)[0]
    panels = task.plan.panels
    jobs = task.plan.groups * panels
    for job in range(jobs * part // parts, jobs * (part + 1) // parts):
        add_up_panel(task, job // panels, job % panels, one)
