"""Filters over images, as _image_plan.py describes them: forward passes, and gradients for the input.

Each thread copies some rows of an image, padded, to scratch memory that fits the second-level cache. Vectors run over
filters, the rows of a register tile over the pixels of one row of outputs: so no width, stride or padding wastes lanes.
What a tile leaves, (pixels, filters), is transposed in the first-level cache on its way to the output.
"""

from numba import carray

from ._caches import LINE_BYTES, PAST_CACHES, round_up
from ._dtype import infinity_of, itemsize, lanes, zero_of
from ._image_plan import PHASE, STRIPE_PIXELS, band_rows, ceil_div
from ._image_tile import as_pointer, copy_block
from ._jit import jit
from ._memory import allocate, call, copy_past_caches, fence, free, load, store
from ._simd import VECTORS
from ._transpose import transpose_matrix

TERM_BYTES = 16


@jit
def panel_width(panel, filters, one):
    """Two vectors of filters; where one is enough for the last panel, it has one."""
    return lanes(one) if filters - panel * 2 * lanes(one) <= lanes(one) else 2 * lanes(one)


@jit
def panel_bytes(task, one):
    return (1 + task.term_count) * 2 * lanes(one) * itemsize(one)


@jit
def pack_panel(task, group, panel, one):
    """A panel's bias, then its weights term by term: rows of one value for each filter, and zeros to fill vectors."""
    plan = task.plan
    size, width, zero = itemsize(one), panel_width(panel, plan.filters, one), zero_of(one)
    to = task.memory + (group * plan.panels + panel) * panel_bytes(task, one)
    for i in range(width):
        f = panel * 2 * lanes(one) + i
        if f < plan.filters:
            store(to, i, load(task.b, group * plan.filters + f, one) if task.has_bias != 0 else zero)
            W_f = task.W + (group * plan.W_group + f * plan.W_filter) * size
            for k in range(task.term_count):
                store(to, (1 + k) * width + i, load(W_f, load(task.places, k, 0), one))
        else:
            for k in range(1 + task.term_count):
                store(to, k * width + i, zero)


def pack(task, part, parts, one):
    """The weights of all panels, as `convolve` reads them."""
    task = carray(task, 1)[0]
    panels = task.plan.panels
    jobs = task.plan.groups * panels
    for job in range(jobs * part // parts, jobs * (part + 1) // parts):
        pack_panel(task, job // panels, job % panels, one)


@jit
def copy_rows(to, image, first, end, plan, one):
    """Rows first..end of a group of channels of an image, as the plan has them."""
    size = itemsize(one)
    for c in range(plan.channels):  # along the image as it lies in memory
        source = image + ((c * plan.height + first) * plan.width - plan.left) * size
        copy_block(
            to + c * plan.pitch * size, plan.channels * plan.pitch, source, plan.width, end - first,
            plan.left, plan.left + plan.width, plan.pitch, one,
        )  # fmt: skip


@jit
def store_stripe(out, tiles, turned, turned_row, filters, width, rows, columns, is_large, plan, one):
    """Transpose (rows · columns pixels, width filters) to where the filters' planes of the output have their rows."""
    size, pixels = itemsize(one), rows * columns
    transpose_matrix(turned, turned_row, tiles, width, pixels, width, one)
    for f in range(filters):
        to, source = out + f * plan.out_plane * size, turned + f * turned_row * size
        if is_large and plan.out_row == columns and to % LINE_BYTES == 0 and pixels % lanes(one) == 0:
            copy_past_caches(to, source, pixels * size)
        elif plan.out_row == columns:
            copy_block(to, 0, source, 0, 1, 0, pixels, pixels, one)
        elif plan.out_column == 1:
            copy_block(to, plan.out_row, source, columns, rows, 0, columns, columns, one)
        else:
            out_row, out_column = plan.out_row, plan.out_column  # not read again after each store
            for y in range(rows):
                for x in range(columns):
                    store(to, y * out_row + x * out_column, load(source, y * columns + x, one))


@jit
def convolve_row(tile, plan, phase, y, terms, copy, copied, packed, vectors, to, floor):
    """One row of a phase's outputs for a panel of filters: (columns, filters) values.

    copy: the image's rows from `copied` on. packed: see `pack_filters`.
    """
    size, columns = itemsize(floor), phase.columns
    top = phase.first_row + y * plan.row_step
    tap_row, taps_end = phase.tap_row, phase.tap_rows
    taps_first = (-top + tap_row - 1) // tap_row if top < 0 else 0
    if top + (taps_end - 1) * tap_row >= plan.height:
        taps_end = (plan.height - 1 - top) // tap_row + 1 if top < plan.height else 0
    depth = max(taps_end - taps_first, 0) * phase.row_terms
    width = vectors * lanes(floor)
    weights = packed + (1 + phase.terms_at + taps_first * phase.row_terms) * width * size
    place = copy + (top + taps_first * tap_row - copied) * plan.channels * plan.pitch * size
    # Tiles of equal height, or one row more: a last tile of few rows would be slow.
    highest = VECTORS.tile_sums // vectors
    tiles = ceil_div(columns, highest)
    height, taller = columns // tiles, columns % tiles
    x = 0
    for number in range(tiles):
        h = height + 1 if number < taller else height
        call(
            tile, h, vectors, depth, place + x * plan.column_step * size, plan.column_step, weights, terms,
            to + x * width * size, width, packed, 0, floor,
        )  # fmt: skip
        x += h


@jit
def stripe_rows(columns):
    return max(1, STRIPE_PIXELS // columns)


@jit
def copied_rows(plan, y0, y1):
    """The image's rows that rows y0..y1 of outputs see, in all phases."""
    last = plan.last_row + (y1 - plan.out_rows) * plan.row_step
    return max(0, plan.first_row + y0 * plan.row_step), min(plan.height, last + 1)


def convolve(task, part, parts, one):
    """A share of the jobs, each a band of rows of a group of an image."""
    task = carray(task, 1)[0]
    plan = task.plan
    size, widest = itemsize(one), 2 * lanes(one)
    floor = zero_of(one) if task.relu != 0 else -infinity_of(one)
    is_large = task.images * plan.groups * plan.filters * plan.out_plane * size > PAST_CACHES
    phases = carray(as_pointer(task.phases), task.phase_count, PHASE)
    band = band_rows(plan, task.images, parts)
    bands = ceil_div(plan.out_rows, band)
    jobs = task.images * plan.groups * bands
    turned_row = (plan.pixels // lanes(one) | 1) * lanes(one)
    scratch = allocate((plan.copy_size + (plan.pixels + turned_row) * widest) * size + LINE_BYTES)
    if scratch == 0:
        task.no_memory = 1
        return
    copy = round_up(scratch, LINE_BYTES)
    tiles = copy + plan.copy_size * size
    turned = tiles + plan.pixels * widest * size
    for job in range(jobs * part // parts, jobs * (part + 1) // parts):
        y0, image = job % bands * band, job // bands  # `image`: of a group
        y1, group = min(plan.out_rows, y0 + band), image % plan.groups
        first, end = copied_rows(plan, y0, y1)
        copy_rows(copy, task.x + image * plan.channels * plan.height * plan.width * size, first, end, plan, one)
        for number in range(task.phase_count):
            phase = phases[number]
            columns = phase.columns
            stripe = stripe_rows(columns)
            for panel in range(plan.panels):
                width = panel_width(panel, plan.filters, one)
                vectors, filters = width // lanes(one), min(width, plan.filters - panel * widest)
                terms = task.terms + ((vectors - 1) * task.term_count + phase.terms_at) * TERM_BYTES
                weights = task.memory + (group * plan.panels + panel) * panel_bytes(task, one)
                plane = task.out + (image * plan.filters + panel * widest) * plan.out_plane * size
                for s0 in range(y0, min(y1, phase.rows), stripe):
                    s1 = min(s0 + stripe, y1, phase.rows)
                    for y in range(s0, s1):
                        to = tiles + (y - s0) * columns * width * size
                        convolve_row(task.tile, plan, phase, y, terms, copy, first, weights, vectors, to, floor)
                    to = plane + (phase.out_at + s0 * plan.out_row) * size
                    store_stripe(to, tiles, turned, turned_row, filters, width, s1 - s0, columns, is_large, plan, one)
    if is_large:
        fence()
    free(scratch)
