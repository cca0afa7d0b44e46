"""Filters of 3 x 3 over images in steps of one pixel by Winograd's minimal filtering, F(2x2, 3x3).

Four outputs next to each other, a tile, cost 16 multiplications for each channel instead of 36: tiles of the image and
filters are transformed by additions, multiplied element by element, summed up over channels, and transformed back.
Lavin, Gray, Fast Algorithms for Convolutional Neural Networks, CVPR 2016. For each of a tile's 16 elements that is a
product of matrices, (filters, channels) by (channels, tiles), by the register tiles of _image_tile.py.

Each thread takes some rows of tiles at a time, of one or more images, that fit the second-level cache transformed.
Additions spread NaN and infinity over a tile, and may overflow: where an output is not finite, the task says so.
"""

from typing import NamedTuple

from numba import carray

from ._caches import LINE_BYTES, PAST_CACHES, round_up
from ._convolve_planes import panel_of
from ._dtype import infinity_of, itemsize, lanes, zero_of
from ._image_plan import PIXEL_ROWS, PIXEL_VECTORS, ceil_div
from ._jit import jit
from ._memory import allocate, call, copy_past_caches, fence, free, load, prefetch, store
from ._winograd_tile import store_rows, transform_columns, transform_rows, transform_sums

_BIASED = 5  # of the elements of a tile, the one that all four outputs have with a factor of 1


class Scratch(NamedTuple):
    """Addresses in the scratch memory of a thread."""

    half: int  # of one channel, transformed along rows: 16 rows
    check: int  # a vector that has NaN when an output was not finite
    tiles: int  # transformed: 16 planes of rows for each channel
    sums: int  # of a panel of filters: 16 planes
    pixels: int  # of each filter of a panel: those of the tiles' first rows, then those of the second
    band: int  # of one filter, as in the output


@jit
def packed_panel(task, panel, one):
    """Where a panel's filters lie: zeros, biases, then for each of 16 elements columns of PIXEL_ROWS, one a channel."""
    return task.memory + panel * (2 + 16 * task.plan.channels) * PIXEL_ROWS * itemsize(one)


@jit
def four_of(g0, g1, g2, one):
    """G g, along one axis."""
    half = one / (one + one)
    return g0, (g0 + g1 + g2) * half, (g0 - g1 + g2) * half, g2


@jit
def transform_filter(to, step, g, turned, one):
    """G g Gᵀ: the element number n to to[n · step]."""
    at, by = (8, -1) if turned != 0 else (0, 1)
    a0, a1, a2, a3 = four_of(load(g, at, one), load(g, at + 3 * by, one), load(g, at + 6 * by, one), one)
    b0, b1, b2, b3 = four_of(load(g, at + by, one), load(g, at + 4 * by, one), load(g, at + 7 * by, one), one)
    c0, c1, c2, c3 = four_of(load(g, at + 2 * by, one), load(g, at + 5 * by, one), load(g, at + 8 * by, one), one)
    n = 0
    for row in ((a0, b0, c0), (a1, b1, c1), (a2, b2, c2), (a3, b3, c3)):
        for value in four_of(row[0], row[1], row[2], one):
            store(to, n * step, value)
            n += 1


def transform_filters(task, part, parts, one):
    """The weights of all panels, as `convolve` reads them."""
    task = carray(task, 1)[0]
    plan, size = task.plan, itemsize(one)
    for panel in range(plan.panels * part // parts, plan.panels * (part + 1) // parts):
        to = packed_panel(task, panel, one)
        first, count = panel_of(plan, panel)
        for i in range(PIXEL_ROWS):
            store(to, i, zero_of(one))
        for i in range(count):
            store(to, PIXEL_ROWS + i, load(task.b, first + i, one) if task.has_bias != 0 else zero_of(one))
            for c in range(plan.channels):
                to_c = to + ((2 + c) * PIXEL_ROWS + i) * size
                g = task.W + ((first + i) * plan.W_filter + c * plan.W_channel) * size
                transform_filter(to_c, plan.channels * PIXEL_ROWS, g, plan.turned, one)


@jit
def rows_of_image(plan, q, end):
    """(image, its first row of tiles, how many) of rows number q to `end` of all images, as far as it has them."""
    i = q % plan.tile_rows
    return q // plan.tile_rows, i, min(plan.tile_rows - i, end - q)


@jit
def transform_images(task, q0, q1, scratch, one):
    """The rows q0 to q1 of tiles, all channels."""
    plan, size, columns = task.plan, itemsize(one), task.plan.tile_columns
    for c in range(plan.channels):
        q = q0
        while q < q1:
            n, i, rows = rows_of_image(plan, q, q1)
            image = task.x + ((n * plan.channels + c) * plan.height * plan.width - plan.left) * size
            transform_rows(
                scratch.half + (q - q0) * columns * size, plan.row, image, plan.width, plan.height,
                2 * i - plan.top, rows, plan.left, plan.left + plan.width, columns, one,
            )  # fmt: skip
            q += rows
        to = scratch.tiles + c * plan.row * size
        transform_columns(to, plan.plane, scratch.half, plan.row, (q1 - q0) * columns, one)


@jit
def rows_ahead(task, q, end, one):
    """Where in an image, and up to how many bytes further on, the pixels are that rows q to `end` of tiles add."""
    plan = task.plan
    n, i, rows = rows_of_image(plan, q, end)
    first, last = max(0, 2 * i + 2 - plan.top), min(plan.height, 2 * (i + rows) + 2 - plan.top)
    at = (n * plan.channels * plan.height + first) * plan.width
    return task.x + at * itemsize(one), max(0, last - first) * plan.width * itemsize(one)


@jit
def fetch(start, count, plan, panel, n, share, shares, one):
    """Have a share of `count` bytes of each channel fetched, all of them in as many calls as there are tiles."""
    first, end = count * share // shares, count * (share + 1) // shares
    channel_bytes = plan.height * plan.width * itemsize(one)
    for c in range(plan.channels * panel // plan.panels + n, plan.channels * (panel + 1) // plan.panels, 16):
        for at in range(start + c * channel_bytes + first, start + c * channel_bytes + end, LINE_BYTES):
            prefetch(at)


@jit
def multiply(task, panel, tiles, scratch, ahead, ahead_bytes, one):
    """The outputs of a panel of filters for so many tiles."""
    plan, size, floor = task.plan, itemsize(one), -infinity_of(one)
    _, count = panel_of(plan, panel)
    zeros = packed_panel(task, panel, one)
    biases, filters = zeros + PIXEL_ROWS * size, zeros + 2 * PIXEL_ROWS * size
    width = PIXEL_VECTORS * lanes(one)
    all_vectors = ceil_div(tiles, lanes(one))
    shares = ceil_div(all_vectors, PIXEL_VECTORS)
    at = 0
    for share in range(shares):
        vectors = all_vectors * (share + 1) // shares - all_vectors * share // shares
        for n in range(16):
            if ahead_bytes > 0:
                fetch(ahead, ahead_bytes, plan, panel, n, share, shares, one)
            call(
                task.tile, count, vectors, plan.channels, filters + n * plan.channels * PIXEL_ROWS * size,
                scratch.tiles + (n * plan.plane + at) * size, task.terms, scratch.sums + n * PIXEL_ROWS * width * size,
                width, biases if n == _BIASED else zeros, width, floor,
            )  # fmt: skip
        pixels = scratch.pixels + 2 * at * size
        transform_sums(pixels, 2 * plan.row, 4 * plan.row, scratch.sums, count, vectors, one)
        at += vectors * lanes(one)


@jit
def store_band(out, pixels, rows, odd_rows, streams, scratch, floor, plan):
    """Rows of one filter's outputs, those that are the first of a tile and those that are the second."""
    size, width, tiles_row = itemsize(floor), plan.out_width, 2 * plan.tile_columns
    count = (rows + odd_rows) * width
    streams = streams and out % LINE_BYTES == 0 and count % lanes(floor) == 0
    to, odd = scratch.band if streams else out, pixels + 2 * plan.row * size
    store_rows(to, 2 * width, pixels, tiles_row, rows, width, scratch.check, floor)
    store_rows(to + width * size, 2 * width, odd, tiles_row, odd_rows, width, scratch.check, floor)
    if streams:
        copy_past_caches(out, to, count * size)


@jit
def store_panel(task, panel, q0, q1, streams, scratch, floor):
    """The outputs of a panel of filters for the rows q0 to q1 of tiles."""
    plan, size = task.plan, itemsize(floor)
    first, count = panel_of(plan, panel)
    q = q0
    while q < q1:
        n, i, rows = rows_of_image(plan, q, q1)
        for k in range(count):
            plane = (n * plan.filters + first + k) * plan.out_height
            out = task.out + (plane + 2 * i) * plan.out_width * size
            pixels = scratch.pixels + (k * 4 * plan.row + 2 * (q - q0) * plan.tile_columns) * size
            store_band(out, pixels, rows, min(rows, plan.out_height // 2 - i), streams, scratch, floor, plan)
        q += rows


def convolve(task, part, parts, one):
    """A share of the rows of tiles of all images."""
    tasks = carray(task, 1)
    task = tasks[0]
    plan, size = task.plan, itemsize(one)
    all_rows = task.images * plan.tile_rows
    first, end = all_rows * part // parts, all_rows * (part + 1) // parts
    if first >= end:
        return
    floor = zero_of(one) if task.relu != 0 else -infinity_of(one)
    fetches = task.images * plan.channels * plan.height * plan.width * size > PAST_CACHES
    streams = task.images * plan.filters * plan.out_height * plan.out_width * size > PAST_CACHES
    # Memory as it comes may hold subnormal numbers, which are slow: zeros where vectors go beyond a row's last tile.
    zeroed = 16 * plan.row + LINE_BYTES // size
    panel_sums, panel_pixels = 16 * PIXEL_ROWS * PIXEL_VECTORS * lanes(one), PIXEL_ROWS * 4 * plan.row
    elements = zeroed + 16 * plan.plane + panel_sums + panel_pixels + 4 * plan.row
    memory = allocate(elements * size + LINE_BYTES)
    if memory == 0:
        tasks[0].no_memory = 1
        return
    half = round_up(memory, LINE_BYTES)
    for i in range(zeroed):
        store(half, i, zero_of(one))
    tiles = half + zeroed * size
    sums = tiles + 16 * plan.plane * size
    pixels = sums + panel_sums * size
    scratch = Scratch(half, half + 16 * plan.row * size, tiles, sums, pixels, pixels + panel_pixels * size)
    blocks = ceil_div(end - first, plan.block)
    for block in range(blocks):
        q0, q1 = first + (end - first) * block // blocks, first + (end - first) * (block + 1) // blocks
        transform_images(task, q0, q1, scratch, one)
        ahead, ahead_bytes = rows_ahead(task, q1, min(q1 + plan.block, end), one) if fetches and q1 < end else (0, 0)
        for panel in range(plan.panels):
            multiply(task, panel, (q1 - q0) * plan.tile_columns, scratch, ahead, ahead_bytes, one)
            store_panel(task, panel, q0, q1, streams, scratch, floor)
    if streams:
        fence()
    for i in range(lanes(one)):
        if load(scratch.check, i, one) != 0:
            tasks[0].not_finite = 1
    free(memory)
