"""Filters over images where vectors run over pixels, as _image_plan.py describes them: steps of one pixel only.

Each thread copies some rows of each channel, padded, to scratch memory that fits the second-level cache. There they are
one long row of pixels, or, for enough filters, one for each column of taps; vectors run over it, the rows of a register
tile over filters. Nothing needs transposing. Where the rows have pixels between them that count for nothing, or there
are several phases, sums go to the output by way of scratch memory.
"""

from numba import carray

from ._caches import LINE_BYTES, round_up
from ._convolve import TERM_BYTES
from ._dtype import infinity_of, itemsize, lanes, zero_of
from ._image_plan import PHASE, PIXEL_ROWS, PIXEL_VECTORS, band_rows, ceil_div
from ._image_tile import as_pointer, copy_block
from ._jit import jit
from ._memory import allocate, call, copy_bytes, free, load, store


@jit
def panel_of(plan, panel):
    """(the panel's first filter, how many it has)"""
    first = plan.filters * panel // plan.panels
    return first, plan.filters * (panel + 1) // plan.panels - first


@jit
def packed_panel(task, group, panel, one):
    """Where a panel's biases lie, and after them a column of PIXEL_ROWS weights for each term."""
    number = group * task.plan.panels + panel
    return task.memory + number * (1 + task.term_count) * PIXEL_ROWS * itemsize(one)


@jit
def pack_panel(task, group, panel, one):
    plan, size, to = task.plan, itemsize(one), packed_panel(task, group, panel, one)
    first, count = panel_of(plan, panel)
    for i in range(count):
        f = first + i
        store(to, i, load(task.b, group * plan.filters + f, one) if task.has_bias != 0 else zero_of(one))
        W_f = task.W + (group * plan.W_group + f * plan.W_filter) * size
        for k in range(task.term_count):
            store(to, (1 + k) * PIXEL_ROWS + i, load(W_f, load(task.places, k, 0), one))


def pack(task, part, parts, one):
    """The weights of all panels, as `convolve` reads them."""
    task = carray(task, 1)[0]
    panels = task.plan.panels
    jobs = task.plan.groups * panels
    for job in range(jobs * part // parts, jobs * (part + 1) // parts):
        pack_panel(task, job // panels, job % panels, one)


@jit
def copy_planes(to, image, first, rows, shifts, plan, one):
    """Rows of a group of channels of an image, from number `first` on, as each shift sees them; zeros outside."""
    size, columns = itemsize(one), plan.pitch
    above = min(max(0, -first), rows)
    below = max(0, min(rows, plan.height - first))
    for c in range(plan.channels):
        for number in range(plan.shifts):
            shift = load(shifts, number, 0)
            begin, end = max(0, -shift), min(columns, plan.width - shift)
            plane = to + (c * plan.shifts + number) * plan.plane * size
            at = (first + above) * plan.width + shift
            source, to_image = image + (c * plan.height * plan.width + at) * size, plane + above * columns * size
            copy_block(plane, columns, image, 0, above, 0, 0, columns, one)
            if columns == plan.width and begin < end and above < below:  # all at once, then zeros at the sides
                pixels = (below - above) * columns
                skipped = max(0, -at)
                copied = min(pixels, plan.height * plan.width - at) - skipped
                copy_bytes(to_image + skipped * size, source + skipped * size, copied * size)
                for r in range(below - above):
                    for j in range(begin):
                        store(to_image, r * columns + j, zero_of(one))
                    for j in range(end, columns):
                        store(to_image, r * columns + j, zero_of(one))
            else:
                copy_block(to_image, columns, source, plan.width, below - above, begin, end, columns, one)
            copy_block(plane + below * columns * size, columns, image, 0, rows - below, 0, 0, columns, one)


@jit
def convolve_rows(task, phase, group, copy, rows, to, to_plane, floor):
    """Rows of a phase's outputs, to one plane for each filter."""
    plan, size, width = task.plan, itemsize(floor), PIXEL_VECTORS * lanes(floor)
    start = copy + (phase.first_row - plan.first_row) * plan.pitch * size
    depth, terms = phase.tap_rows * phase.row_terms, task.terms + phase.terms_at * TERM_BYTES
    pixels = (rows - 1) * plan.pitch + plan.out_columns
    for p in range(0, pixels, width):
        vectors = min(PIXEL_VECTORS, ceil_div(pixels - p, lanes(floor)))
        for panel in range(plan.panels):
            first, count = panel_of(plan, panel)
            bias = packed_panel(task, group, panel, floor)
            weights = bias + (1 + phase.terms_at) * PIXEL_ROWS * size
            call(
                task.tile, count, vectors, depth, weights, start + p * size, terms,
                to + (first * to_plane + p) * size, to_plane, bias, pixels - p, floor,
            )  # fmt: skip


@jit
def store_rows(out, sums, phase, rows, plan, one):
    """Rows of a phase's outputs to their places."""
    size, out_row, out_column = itemsize(one), plan.out_row, plan.out_column
    for f in range(plan.filters):
        to, source = out + f * plan.out_plane * size, sums + f * plan.pixels * size
        if out_column == 1:
            copy_block(to, out_row, source, plan.pitch, rows, 0, phase.columns, phase.columns, one)
        else:
            for y in range(rows):
                for x in range(phase.columns):
                    store(to, y * out_row + x * out_column, load(source, y * plan.pitch + x, one))


def convolve(task, part, parts, one):
    """A share of the jobs, each a band of rows of a group of an image."""
    task = carray(task, 1)[0]
    plan = task.plan
    size, direct = itemsize(one), plan.pixels == 0
    floor = zero_of(one) if task.relu != 0 else -infinity_of(one)
    phases = carray(as_pointer(task.phases), task.phase_count, PHASE)
    band = band_rows(plan, task.images, parts)
    bands = ceil_div(plan.out_rows, band)
    jobs = task.images * plan.groups * bands
    first_job, end_job = jobs * part // parts, jobs * (part + 1) // parts
    if first_job >= end_job:
        return
    scratch = allocate((plan.copy_size + plan.filters * plan.pixels) * size + LINE_BYTES)
    if scratch == 0:
        task.no_memory = 1
        return
    copy = round_up(scratch, LINE_BYTES)
    sums = copy + plan.copy_size * size
    for i in range(plan.copy_size):  # memory as it comes may hold subnormal numbers, which are slow
        store(copy, i, zero_of(one))
    for job in range(first_job, end_job):
        y0, image = job % bands * band, job // bands  # `image`: of a group
        rows, group = min(band, plan.out_rows - y0), image % plan.groups
        source = task.x + image * plan.channels * plan.height * plan.width * size
        copy_planes(copy, source, plan.first_row + y0, rows + plan.copied_rows - plan.band, task.shifts, plan, one)
        out = task.out + (image * plan.filters * plan.out_plane + y0 * plan.out_row) * size
        for number in range(task.phase_count):
            phase = phases[number]
            to, to_plane = (out, plan.out_plane) if direct else (sums, plan.pixels)
            convolve_rows(task, phase, group, copy, rows, to, to_plane, floor)
            if not direct:
                here = min(rows, phase.rows - y0)
                store_rows(out + phase.out_at * size, sums, phase, here, plan, one)
    free(scratch)
