"""Matrix product C = ending(A · B): plain loops round the register tiles of _tile.py.

The blocking is that of Goto, van de Geijn (ACM TOMS 34, 2008): blocks of B and A are copied to scratch memory that fits
the second-level cache, where that pays; small operands are used where they lie. A, B and C are addresses with strides
counted in elements, so A and B may be transposed views; the last axis of C is contiguous.

The loops are compiled once per dtype, as a C function that every other kernel calls by its address: linked into its
callers, the tiles would be compiled again for each. All of it runs on the calling thread, and the order of every sum
depends on the depth, and of the last columns on how many they fill of a vector: however callers divide the rows (3 or
more a share) and the columns (by multiples of a vector) among threads, the result is the same, bit for bit.
"""

import numpy as np
from numba import types

from ._caches import LINE_BYTES, odd_lines, round_up
from ._dtype import infinity_of, itemsize, lanes, one_of, zero_of
from ._elementwise import in_vectors
from ._jit import c_function, jit, once
from ._math import sigmoid
from ._memory import copy_bytes, load, store
from ._row_tile import HAS_ROW_TILE, row_product
from ._simd import VECTORS
from ._tile import DOT_ROWS, TILE_ROWS, TILE_VECTORS, WIDE, dots, most_dots, tile, zero_row
from ._transpose import transpose_matrix, transpose_scratch

# The endings. v is what an ending needs: the bias, or the matrix of outputs of an activation.
STORE = 0  # C = alpha · AB
UPDATE = 1  # C += alpha · AB
BIAS = 2  # C = AB + v
BIAS_RELU = 3  # C = max(AB + v, 0)
BIAS_SIGMOID = 4  # C = 1 / (1 + exp(-(AB + v)))
RELU_GRADIENT = 5  # C = 0 where v <= 0, else AB
SIGMOID_GRADIENT = 6  # C = AB · v · (1 - v)

TILE_DEPTH = 256  # longest sum in one tile; then it is added to C
BLOCK_B_ROW_BYTES = 4224  # whole panels of two or three vectors, whatever the CPU and dtype
BLOCK_B_BYTES = BLOCK_B_ROW_BYTES * TILE_DEPTH
BLOCK_A_ROWS = 12 * TILE_ROWS
BLOCK_A_ROW_BYTES = 4096
TRANSPOSE_A_COLUMNS = 512  # columns of B from which copying a transposed A pays
PACK_B_ROWS, PACK_NARROW_B_ROWS = 128, 400  # rows of A from which copying B pays
DOTS_FROM, DOTS_TO = 8, 2048  # vectors, elements of depth: between them columns left over are the work of `dots`
ROW_TILE_FROM, ROW_TILE_TO = 1 << 15, 1 << 21  # bytes of B that is in the second-level cache, not in the first
TURNED_BYTES = 3 << 17  # of a product that is computed transposed: with the rest of scratch memory below 2 MB
_LEAST_HEIGHT = 3  # of tiles whose sums have the same order


@jit
def _packs_a(n, a_col, alpha):
    """Where A is transposed, and B broad; or A's columns lie 2 KB · i apart, so that they displace each other.

    Rows that far apart do no harm: no tile has as many as the nearest cache keeps side by side.
    """
    displaced = a_col * itemsize(alpha) % 2048 == 0 and a_col != 0 and n > TILE_VECTORS * lanes(alpha)
    return a_col != 1 and (n >= TRANSPOSE_A_COLUMNS or displaced)


@jit
def _packs_b(m, b_row, b_col, alpha):
    """Where B is transposed, or A high; higher where B's rows are near each other (50 columns, 224 rows: - 4 %)."""
    return b_col != 1 or m >= (PACK_B_ROWS if b_row * itemsize(alpha) >= 1024 else PACK_NARROW_B_ROWS)


@jit
def _depths(n, depth, alpha):
    """(of a tile, of a block). A tile's makes the order of sums: it must not depend on how columns are divided."""
    size = itemsize(alpha)
    tiles = max(1, (depth + TILE_DEPTH - 1) // TILE_DEPTH)
    tile_depth = max(1, round_up((depth + tiles - 1) // tiles, lanes(alpha)))
    row_bytes = min(round_up(max(n, 1), TILE_VECTORS * lanes(alpha)) * size, BLOCK_B_ROW_BYTES)
    block_depth = min(BLOCK_B_BYTES // row_bytes, BLOCK_A_ROW_BYTES // size)
    return tile_depth, tile_depth * max(1, min(tiles, block_depth // tile_depth))


@jit
def columns_for_dots(m, n, depth, a_col, alpha):
    """How many columns at the end are the work of `dots`: few, which would leave most of a vector idle, of long sums.

    (50, 50, 784): 34 → 26 µs in float32. It must not depend on how rows and columns are divided.
    """
    left = n % lanes(alpha)
    pays = m >= _LEAST_HEIGHT and a_col == 1 and DOTS_FROM * lanes(alpha) <= depth <= DOTS_TO
    return left if pays and left <= most_dots(alpha) else 0


@jit
def _takes_row_tile(m, depth, b_row, b_col, alpha):
    """Whether `row_product` serves: a single row, where B is in the second-level cache and its rows are long."""
    fits = ROW_TILE_FROM <= b_row * depth * itemsize(alpha) <= ROW_TILE_TO
    return HAS_ROW_TILE and m == 1 and b_col == 1 and b_row >= 2 * lanes(alpha) and fits


@jit
def _a_blocks(m):
    """The last takes up to two rows more, since a block of one or two would be summed in another order."""
    return max(min(m, 1), (m + BLOCK_A_ROWS - 3) // BLOCK_A_ROWS)


@jit
def _block_sizes(m, n, depth, a_col, b_row, b_col, alpha):
    """Bytes of scratch memory for a block of A, one of B, and columns for `dots`."""
    size, panel = itemsize(alpha), TILE_VECTORS * lanes(alpha)
    _, block_depth = _depths(n, depth, alpha)
    a_bytes, b_bytes = 0, 0
    dots_bytes = columns_for_dots(m, n, depth, a_col, alpha) * odd_lines(depth, LINE_BYTES // size) * size
    if _packs_a(n, a_col, alpha):
        padding = 2 * LINE_BYTES // size
        a_bytes = (block_depth + padding) * round_up(min(m, BLOCK_A_ROWS + 2), lanes(alpha)) * size
    if _packs_b(m, b_row, b_col, alpha):
        b_bytes = block_depth * min(round_up(n, panel) * size, BLOCK_B_ROW_BYTES)
    return round_up(a_bytes, LINE_BYTES), b_bytes, dots_bytes


@jit
def _turned_size(m, n, alpha):
    """Of Cᵀ in scratch memory: the distance between rows, and bytes."""
    row = odd_lines(m, max(LINE_BYTES // itemsize(alpha), lanes(alpha)))
    return row, row * round_up(n, lanes(alpha)) * itemsize(alpha)


@jit
def _turned_columns(m, n, depth, a_row, a_col, b_col, alpha):
    """How many columns, the last ones, are computed as Cᵀ = Bᵀ · Aᵀ, then transposed; the sums are the same.

    That is done for dW = xᵀ · dout where its columns would leave many lanes idle, as rows of m elements do not: for the
    few beyond whole vectors, as of 50 or 100, where A stays in the cache to be read twice; else for all.
    """
    vector, left = lanes(alpha), n % lanes(alpha)
    wastes = m >= 2 * vector and n >= _LEAST_HEIGHT and 12 * (round_up(n, vector) - n) > n
    distinct = a_col * itemsize(alpha) % 2048 != 0  # rows 2 KB · i apart displace each other from the cache
    splits = n > TILE_VECTORS * vector and left <= vector // 4 and m * depth * itemsize(alpha) <= BLOCK_B_BYTES
    columns = max(left, _LEAST_HEIGHT) if splits else n
    turns = a_row == 1 and b_col == 1 and wastes and distinct and _turned_size(m, columns, alpha)[1] <= TURNED_BYTES
    return columns if turns else 0


@jit
def scratch_bytes(m, n, depth, a_row, a_col, b_row, b_col, alpha):
    """Scratch memory that `product` needs for these arguments; never more than SCRATCH_BYTES."""
    needed = sum(_block_sizes(m, n, depth, a_col, b_row, b_col, alpha))
    turned = _turned_columns(m, n, depth, a_row, a_col, b_col, alpha)
    if turned > 0:
        blocks = sum(_block_sizes(turned, m, depth, b_row, a_col, a_row, alpha))
        needed = max(needed, _turned_size(m, turned, alpha)[1] + blocks)
    return needed + LINE_BYTES if needed > 0 else 0


@jit
def _pack_a(to, a, a_row, a_col, rows, depth, alpha):
    """Copy a block of A by rows; the distance from row to row of the copy."""
    size = itemsize(alpha)
    row = odd_lines(depth, LINE_BYTES // size)
    if a_row == 1:
        transpose_matrix(to, row, a, a_col, depth, rows, alpha)
    else:
        for i in range(rows):
            for k in range(depth):
                store(to + i * row * size, k, load(a + i * a_row * size, k * a_col, alpha))
    return row


@jit
def _breadth(columns, alpha):
    """Of the next tile, where so many columns are left: four vectors are two and two, rather than three and one."""
    panel, vector = TILE_VECTORS * lanes(alpha), lanes(alpha)
    return 2 * vector if panel < columns <= panel + vector else min(panel, columns)


@jit
def _pack_b(to, b, b_row, b_col, depth, columns, panel_bytes, alpha):
    """Copy a block of B as panels, `panel_bytes` apart: rows as long as a tile is broad, one after the other."""
    size, panel = itemsize(alpha), TILE_VECTORS * lanes(alpha)
    if b_col == 1:  # along whole rows of B, as it lies in memory
        whole = max(0, columns - lanes(alpha) - 1) // panel  # panels before the last two: copies of constant length
        for k in range(depth):
            to_k, b_k, left = to + k * panel * size, b + k * b_row * size, columns - whole * panel
            for _ in range(whole):
                copy_bytes(to_k, b_k, panel * size)
                to_k, b_k = to_k + panel_bytes, b_k + panel * size
            while left > 0:
                width = _breadth(left, alpha)
                copy_bytes(to_k, b_k, width * size)
                to_k, b_k, left = to_k + panel_bytes, b_k + width * size, left - width
        return
    to_j, b_j, left = to, b, columns
    while left > 0:
        width = _breadth(left, alpha)
        if b_row == 1:
            transpose_matrix(to_j, panel, b_j, b_col, width, depth, alpha)
        else:
            for k in range(depth):
                for column in range(width):
                    store(to_j + k * panel * size, column, load(b_j + k * b_row * size, column * b_col, alpha))
        to_j, b_j, left = to_j + panel_bytes, b_j + width * b_col * size, left - width


@jit
def pack_columns(to, to_col, b, b_row, b_col, depth, columns, alpha):
    """Copy columns of B for `dots`, each as a row."""
    size = itemsize(alpha)
    for j in range(columns):
        for k in range(depth):
            store(to + j * to_col * size, k, load(b + k * b_row * size, j * b_col, alpha))


@jit
def start_of(ending, c, c_row, bias, alpha):
    """What is added to a tile's sums: its address, and the distance between its rows."""
    if ending == UPDATE:
        return c, c_row
    return bias if ending in (BIAS, BIAS_RELU, BIAS_SIGMOID) else zero_row(alpha), 0


@jit
def floor_of(ending, is_last, alpha):
    return zero_of(alpha) if ending == BIAS_RELU and is_last else -infinity_of(alpha)


@jit
def activate(c, c_row, rows, columns, ending, v, v_row, alpha):
    """The part of an ending that is no tile's: over a block of C that is still in the cache."""
    in_vectors()
    size, zero, one = itemsize(alpha), zero_of(alpha), one_of(alpha)
    if c_row == columns and (v_row == columns or ending == BIAS_SIGMOID):  # rows may be shorter than a vector
        rows, columns = 1, rows * columns
    for i in range(rows):
        c_i, v_i = c + i * c_row * size, v + i * v_row * size
        if ending == BIAS_SIGMOID:
            for j in range(columns):
                store(c_i, j, sigmoid(load(c_i, j, one)))
        elif ending == RELU_GRADIENT:
            for j in range(columns):
                store(c_i, j, zero if load(v_i, j, one) <= zero else load(c_i, j, one))
        else:
            for j in range(columns):
                y = load(v_i, j, one)
                store(c_i, j, load(c_i, j, one) * y * (one - y))


def _product(m, n, depth, a, a_row, a_col, b, b_row, b_col, c, c_row, ending, v, v_row, scratch, alpha):
    """C (m, n) = ending(A (m, depth) · B (depth, n)) on the calling thread.

    a, b, c, v, scratch: addresses; the strides count elements. v: the bias, or with row stride v_row a matrix like C.
    alpha: 1 for all endings but STORE and UPDATE; its dtype is that of all.
    """
    size, panel, scratch = itemsize(alpha), TILE_VECTORS * lanes(alpha), round_up(scratch, LINE_BYTES)
    if _takes_row_tile(m, depth, b_row, b_col, alpha):
        for j in range(0 if ending == UPDATE else n):
            store(c, j, load(v, j, alpha) if BIAS <= ending <= BIAS_SIGMOID else zero_of(alpha))
        row_product(n, depth, a, a_col, b, b_row, c, alpha, floor_of(ending, True, alpha))
        if ending >= BIAS_SIGMOID:
            activate(c, n, 1, n, ending, v, n, alpha)
        return
    turned = _turned_columns(m, n, depth, a_row, a_col, b_col, alpha) if ending == STORE else 0
    n -= turned
    to, to_row = c + n * size, c_row
    for is_turned in range(2 if turned > 0 else 1):
        if is_turned:
            a, a_row, a_col, b, b_row, b_col = b + n * b_col * size, b_col, b_row, a, a_col, a_row
            c, (c_row, turned_bytes) = scratch, _turned_size(m, turned, alpha)
            m, n, scratch = turned, m, scratch + turned_bytes
        pack_a, pack_b = _packs_a(n, a_col, alpha), _packs_b(m, b_row, b_col, alpha)
        tile_depth, block_depth = _depths(n, depth, alpha)
        a_bytes, b_bytes, _ = _block_sizes(m, n, depth, a_col, b_row, b_col, alpha)
        a_block, b_block, dots_block = scratch, scratch + a_bytes, scratch + a_bytes + b_bytes
        block_columns, panel_bytes = BLOCK_B_ROW_BYTES // size, block_depth * panel * size
        dot_columns, dots_row = columns_for_dots(m, n, depth, a_col, alpha), odd_lines(depth, LINE_BYTES // size)
        if dot_columns > 0:
            b_0 = b + (n - dot_columns) * b_col * size
            pack_columns(dots_block, dots_row, b_0, b_row, b_col, depth, dot_columns, alpha)
        for j0 in range(0, n, block_columns):
            columns = min(block_columns, n - j0)
            tiled = min(columns, n - dot_columns - j0)
            for k0 in range(0, max(depth, 1), block_depth):
                kc = min(block_depth, depth - k0)
                if pack_b:
                    b_0 = b + (k0 * b_row + j0 * b_col) * size
                    _pack_b(b_block, b_0, b_row, b_col, kc, tiled, panel_bytes, alpha)
                for block in range(_a_blocks(m)):
                    i0 = block * BLOCK_A_ROWS
                    rows = m - i0 if block == _a_blocks(m) - 1 else BLOCK_A_ROWS
                    if k0 == 0 and tiled < columns:  # first, because that brings A nearer, row by row
                        a_0, j = a + i0 * a_row * size, j0 + tiled
                        c_j, floor = c + (i0 * c_row + j) * size, floor_of(ending, True, alpha)
                        start, start_row = start_of(ending, c_j, c_row, v + j * size, alpha)
                        for i in range(0, rows, DOT_ROWS):
                            dots(
                                columns - tiled, rows - i, depth, a_0 + i * a_row * size, a_row, dots_block, dots_row,
                                c_j + i * c_row * size, c_row, start + i * start_row * size, start_row, alpha, floor,
                            )  # fmt: skip
                    a_0, a_0_row, a_0_col = a + (i0 * a_row + k0 * a_col) * size, a_row, a_col
                    if pack_a:
                        a_0_row, a_0_col = _pack_a(a_block, a_0, a_row, a_col, rows, kc, alpha), 1
                        a_0 = a_block
                    # Tiles of equal height, or one row more: a last tile of few rows would be slow.
                    # Row by row of tiles, each of the whole depth: A comes from far once, C stays in the nearest cache.
                    tiles = (rows + TILE_ROWS - 1) // TILE_ROWS
                    height, taller = rows // tiles, rows % tiles
                    i = 0
                    for number in range(tiles):
                        h = height + 1 if number < taller else height
                        j, b_j, b_j_row = 0, b + (k0 * b_row + j0) * size, b_row
                        if pack_b:
                            b_j, b_j_row = b_block, panel
                        while j < tiled:
                            width = _breadth(tiled - j, alpha)
                            if m == 1 and not pack_b:
                                width = min(WIDE * lanes(alpha), tiled - j)
                            c_ij, v_j = c + ((i0 + i) * c_row + j0 + j) * size, v + (j0 + j) * size
                            for k in range(0, max(kc, 1), tile_depth):
                                start, start_row = start_of(ending if k0 + k == 0 else UPDATE, c_ij, c_row, v_j, alpha)
                                tile(
                                    h, width, min(tile_depth, kc - k),
                                    a_0 + (i * a_0_row + k * a_0_col) * size, a_0_row, a_0_col,
                                    b_j + k * b_j_row * size, b_j_row, c_ij, c_row, start, start_row,
                                    alpha, floor_of(ending, k0 + k + tile_depth >= depth, alpha),
                                )  # fmt: skip
                            j, b_j = j + width, b_j + (panel_bytes if pack_b else width * size)
                        i += h
                    if k0 + kc == depth and ending >= BIAS_SIGMOID:
                        at = (i0 * c_row + j0) * size
                        activate(c + at, c_row, rows, columns, ending, v + (i0 * v_row + j0) * size, v_row, alpha)
    if turned > 0:
        transpose_scratch(to, to_row, c, c_row, m, n, alpha)


_BLOCK_A_BYTES = (BLOCK_A_ROW_BYTES + 2 * LINE_BYTES) * (BLOCK_A_ROWS + 2 + VECTORS.bytes // 4)
DOTS_BYTES = VECTORS.bytes // 4 * (DOTS_TO + 2 * LINE_BYTES // 4)
SCRATCH_BYTES = TURNED_BYTES + BLOCK_B_BYTES + _BLOCK_A_BYTES + DOTS_BYTES + 2 * LINE_BYTES


@once
def compiled_product(dtype):
    """`_product` compiled for a dtype; its ``address`` is what kernels call."""
    real = {"f": types.float32, "d": types.float64}[np.dtype(dtype).char]
    return c_function(types.void(*[types.intp] * 15, real), _product)
