"""Matrix product C = ending(A · B): plain loops round the register tiles of _tile.py.

The blocking is that of Goto, van de Geijn (ACM TOMS 34, 2008): blocks of B and A are copied to scratch memory that fits
the second-level cache, where that pays; small operands are used where they lie. A, B and C are addresses with strides
counted in elements, so A and B may be transposed views; the last axis of C is contiguous.

The loops are compiled once per dtype, as a C function that every other kernel calls by its address: linked into its
callers, the tiles would be compiled again for each. All of it runs on the calling thread, and the order of every sum
depends on the depth alone: however callers divide the rows (3 or more a share) and the columns (by multiples of a
panel) among threads, the result is the same, bit for bit.
"""

import functools

import numpy as np
from numba import types
from numba.extending import register_jitable

from ._jit import c_function
from ._math import exp
from ._simd import VECTORS
from ._tile import (
    TILE_ROWS,
    copy_bytes,
    infinity_of,
    itemsize,
    lanes,
    load,
    one_of,
    store,
    tile,
    transpose_full,
    transpose_masked,
    transpose_masked_store,
    zero_of,
    zero_row,
)

# The endings. v is what an ending needs: the bias, or the matrix of outputs of an activation.
STORE = 0  # C = alpha · AB
UPDATE = 1  # C += alpha · AB
BIAS = 2  # C = AB + v
BIAS_RELU = 3  # C = max(AB + v, 0)
BIAS_SIGMOID = 4  # C = 1 / (1 + exp(-(AB + v)))
RELU_GRADIENT = 5  # C = 0 where v <= 0, else AB
SIGMOID_GRADIENT = 6  # C = AB · v · (1 - v)

TILE_DEPTH = 256  # longest sum in one tile; then it is added to C
BLOCK_B_BYTES = 1 << 20
BLOCK_B_ROW_BYTES = BLOCK_B_BYTES // TILE_DEPTH  # whole panels of two vectors, whatever the CPU and dtype
BLOCK_A_ROWS = 8 * TILE_ROWS
BLOCK_A_ROW_BYTES = 4096
TRANSPOSE_A_COLUMNS = 512  # columns of B from which copying a transposed A pays
PACK_B_ROWS = 128  # rows of A from which copying B pays
TURNED_BYTES = 3 << 17  # of a product that is computed transposed: with the rest of scratch memory below 2 MB
_LEAST_HEIGHT = 3  # of tiles whose sums have the same order
_ALIGNMENT = 64  # A load that crosses a cache line costs two
_inline = register_jitable(inline="always")


@_inline
def _round_up(value, unit):
    return (value + unit - 1) // unit * unit


@_inline
def _packs_a(n, a_row, a_col, alpha):
    """Where A is transposed; or its rows lie 2 KB · i apart, so that they displace each other from the cache."""
    stride = (a_row if a_row != 1 else a_col) * itemsize(alpha)
    transposed = a_col != 1 and n >= TRANSPOSE_A_COLUMNS
    return transposed or (stride % 2048 == 0 and stride != 0 and n > 2 * lanes(alpha))


@_inline
def _packs_b(m, b_col):
    return m >= PACK_B_ROWS or b_col != 1


@_inline
def _depths(n, depth, alpha):
    """(of a tile, of a block). A tile's makes the order of sums: it must not depend on how columns are divided."""
    size = itemsize(alpha)
    tiles = max(1, (depth + TILE_DEPTH - 1) // TILE_DEPTH)
    tile_depth = max(1, _round_up((depth + tiles - 1) // tiles, lanes(alpha)))
    row_bytes = min(_round_up(max(n, 1), 2 * lanes(alpha)) * size, BLOCK_B_ROW_BYTES)
    block_depth = min(BLOCK_B_BYTES // row_bytes, BLOCK_A_ROW_BYTES // size)
    return tile_depth, tile_depth * max(1, min(tiles, block_depth // tile_depth))


@_inline
def _a_blocks(m):
    """The last takes up to two rows more, since a block of one or two would be summed in another order."""
    return max(min(m, 1), (m + BLOCK_A_ROWS - 3) // BLOCK_A_ROWS)


@_inline
def _block_sizes(m, n, depth, a_row, a_col, b_col, alpha):
    """Bytes of scratch memory for a block of A and one of B."""
    size, panel = itemsize(alpha), 2 * lanes(alpha)
    _, block_depth = _depths(n, depth, alpha)
    a_bytes, b_bytes = 0, 0
    if _packs_a(n, a_row, a_col, alpha):
        padding = 2 * _ALIGNMENT // size
        a_bytes = (block_depth + padding) * _round_up(min(m, BLOCK_A_ROWS + 2), lanes(alpha)) * size
    if _packs_b(m, b_col):
        b_bytes = block_depth * min(_round_up(n, panel) * size, BLOCK_B_ROW_BYTES)
    return _round_up(a_bytes, _ALIGNMENT), b_bytes


@_inline
def _turned_size(m, n, alpha):
    """Of Cᵀ in scratch memory: the distance between rows, an odd number of cache lines as in `_pack_a`; and bytes."""
    line = max(_ALIGNMENT // itemsize(alpha), lanes(alpha))
    row = (_round_up(m, line) // line | 1) * line
    return row, row * _round_up(n, lanes(alpha)) * itemsize(alpha)


@_inline
def _is_turned(m, n, a_row, a_col, b_col, alpha):
    """Whether Cᵀ = Bᵀ · Aᵀ is computed, then transposed; the sums are the same.

    That is done for dW = xᵀ · dout of few columns: rows of 50 use 78 % of four vectors of float32, columns of 784 fill
    theirs.
    """
    vector = lanes(alpha)
    fills = m >= 2 * vector and n >= _LEAST_HEIGHT and 12 * (_round_up(n, vector) - n) > n
    distinct = a_col * itemsize(alpha) % 2048 != 0  # rows 2 KB · i apart displace each other from the cache
    return a_row == 1 and b_col == 1 and fills and distinct and _turned_size(m, n, alpha)[1] <= TURNED_BYTES


@_inline
def scratch_bytes(m, n, depth, a_row, a_col, b_col, alpha):
    """Scratch memory that `product` needs for these arguments; never more than SCRATCH_BYTES."""
    needed = sum(_block_sizes(m, n, depth, a_row, a_col, b_col, alpha))
    if _is_turned(m, n, a_row, a_col, b_col, alpha):
        needed = max(needed, _turned_size(m, n, alpha)[1] + sum(_block_sizes(n, m, depth, b_col, a_col, a_row, alpha)))
    return needed + _ALIGNMENT if needed > 0 else 0


@_inline
def _transpose(to, to_row, source, source_row, m, n, alpha):
    """to[j, i] = source[i, j], an (m, n) matrix; `to` has room for whole vectors along both axes."""
    size, vector = itemsize(alpha), lanes(alpha)
    for i in range(0, m, vector):
        for j in range(0, n, vector):
            target, block = to + (j * to_row + i) * size, source + (i * source_row + j) * size
            if i + vector <= m and j + vector <= n:
                transpose_full(target, to_row, block, source_row, vector, vector, alpha)
            else:
                transpose_masked(target, to_row, block, source_row, m - i, n - j, alpha)


@_inline
def _turn(to, to_row, source, source_row, m, n, alpha):
    """The same of scratch memory, which has that room; `to` has no more than its elements."""
    size, vector = itemsize(alpha), lanes(alpha)
    for j in range(0, n, vector):
        for i in range(0, m, vector):
            target, block = to + (j * to_row + i) * size, source + (i * source_row + j) * size
            if i + vector <= m and j + vector <= n:
                transpose_full(target, to_row, block, source_row, vector, vector, alpha)
            else:
                transpose_masked_store(target, to_row, block, source_row, n - j, m - i, alpha)


@_inline
def _pack_a(to, a, a_row, a_col, rows, depth, alpha):
    """Copy a block of A by rows; the distance from row to row of the copy.

    That is an odd number of cache lines, since rows at multiples of 4 KB displace each other from the cache. memcpy,
    because loops over elements keep Numba's index checks and are not vectorised.
    """
    size, line = itemsize(alpha), _ALIGNMENT // itemsize(alpha)
    row = (_round_up(depth, line) // line | 1) * line
    if a_col == 1:
        for i in range(rows):
            copy_bytes(to + i * row * size, a + i * a_row * size, depth * size)
    elif a_row == 1:
        _transpose(to, row, a, a_col, depth, rows, alpha)
    else:
        for i in range(rows):
            for k in range(depth):
                store(to + i * row * size, k, load(a + i * a_row * size, k * a_col, alpha))
    return row


@_inline
def _pack_b(to, b, b_row, b_col, depth, columns, panel_size, alpha):
    """Copy a block of B as panels, `panel_size` elements apart: rows of two vectors, one after the other."""
    size, panel = itemsize(alpha), 2 * lanes(alpha)
    whole = columns // panel * panel
    if b_col == 1:  # along whole rows of B, as it lies in memory
        for k in range(depth):
            to_k, b_k = to + k * panel * size, b + k * b_row * size
            for j in range(0, whole, panel):
                copy_bytes(to_k + j // panel * panel_size * size, b_k + j * size, panel * size)
            if whole < columns:
                copy_bytes(to_k + whole // panel * panel_size * size, b_k + whole * size, (columns - whole) * size)
        return
    for j in range(0, columns, panel):
        to_j, b_j, width = to + j // panel * panel_size * size, b + j * b_col * size, min(panel, columns - j)
        if b_row == 1:
            _transpose(to_j, panel, b_j, b_col, width, depth, alpha)
        else:
            for k in range(depth):
                for column in range(width):
                    store(to_j + k * panel * size, column, load(b_j + k * b_row * size, column * b_col, alpha))


@_inline
def _activate(c, c_row, rows, columns, ending, v, v_row, alpha):
    """The part of an ending that is no tile's: over a block of C that is still in the cache."""
    size, zero, one = itemsize(alpha), zero_of(alpha), one_of(alpha)
    if c_row == columns and (v_row == columns or ending == BIAS_SIGMOID):  # rows may be shorter than a vector
        rows, columns = 1, rows * columns
    for i in range(rows):
        c_i, v_i = c + i * c_row * size, v + i * v_row * size
        if ending == BIAS_SIGMOID:
            for j in range(columns):
                store(c_i, j, one / (one + exp(-load(c_i, j, one))))
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
    size, panel = itemsize(alpha), 2 * lanes(alpha)
    scratch, to, to_row = _round_up(scratch, _ALIGNMENT), c, c_row
    is_turned = ending == STORE and _is_turned(m, n, a_row, a_col, b_col, alpha)
    if is_turned:
        c, (c_row, turned_bytes) = scratch, _turned_size(m, n, alpha)
        scratch += turned_bytes
        m, n, a, a_row, a_col, b, b_row, b_col = n, m, b, b_col, b_row, a, a_col, a_row
    pack_a, pack_b = _packs_a(n, a_row, a_col, alpha), _packs_b(m, b_col)
    tile_depth, block_depth = _depths(n, depth, alpha)
    a_block = scratch
    b_block = a_block + _block_sizes(m, n, depth, a_row, a_col, b_col, alpha)[0]
    has_bias = ending in (BIAS, BIAS_RELU, BIAS_SIGMOID)
    block_columns = BLOCK_B_ROW_BYTES // size
    for j0 in range(0, n, block_columns):
        columns = min(block_columns, n - j0)
        for k0 in range(0, max(depth, 1), block_depth):
            kc = min(block_depth, depth - k0)
            if pack_b:
                b_0 = b + (k0 * b_row + j0 * b_col) * size
                _pack_b(b_block, b_0, b_row, b_col, kc, columns, block_depth * panel, alpha)
            for block in range(_a_blocks(m)):
                i0 = block * BLOCK_A_ROWS
                rows = m - i0 if block == _a_blocks(m) - 1 else BLOCK_A_ROWS
                a_0, a_0_row, a_0_col = a + (i0 * a_row + k0 * a_col) * size, a_row, a_col
                if pack_a:
                    a_0_row, a_0_col = _pack_a(a_block, a_0, a_row, a_col, rows, kc, alpha), 1
                    a_0 = a_block
                # Tiles of equal height, or one row more: a last tile of few rows would be slow.
                # Row by row of tiles, each of the whole depth: A comes from far once, C stays in the nearest cache.
                tiles = (rows + TILE_ROWS - 1) // TILE_ROWS
                height, taller = rows // tiles, rows % tiles
                breadth = 2 * panel if m == 1 and not pack_b else panel
                i = 0
                for number in range(tiles):
                    h = height + 1 if number < taller else height
                    for j in range(0, columns, breadth):
                        b_j, b_j_row = b + (k0 * b_row + j0 + j) * size, b_row
                        if pack_b:
                            b_j, b_j_row = b_block + j * block_depth * size, panel
                        c_ij = c + ((i0 + i) * c_row + j0 + j) * size
                        for k in range(0, max(kc, 1), tile_depth):
                            start, start_row = c_ij, c_row
                            if k0 + k == 0 and ending != UPDATE:
                                start, start_row = v + (j0 + j) * size if has_bias else zero_row(alpha), 0
                            is_last = k0 + k + tile_depth >= depth
                            floor = zero_of(alpha) if ending == BIAS_RELU and is_last else -infinity_of(alpha)
                            tile(
                                h, min(breadth, columns - j), min(tile_depth, kc - k),
                                a_0 + (i * a_0_row + k * a_0_col) * size, a_0_row, a_0_col,
                                b_j + k * b_j_row * size, b_j_row, c_ij, c_row, start, start_row, alpha, floor,
                            )  # fmt: skip
                    i += h
                if k0 + kc == depth and ending >= BIAS_SIGMOID:
                    at = (i0 * c_row + j0) * size
                    _activate(c + at, c_row, rows, columns, ending, v + (i0 * v_row + j0) * size, v_row, alpha)
    if is_turned:
        _turn(to, to_row, c, c_row, m, n, alpha)


_BLOCK_A_BYTES = (BLOCK_A_ROW_BYTES + 2 * _ALIGNMENT) * (BLOCK_A_ROWS + 2 + VECTORS.bytes // 4)
SCRATCH_BYTES = TURNED_BYTES + BLOCK_B_BYTES + _BLOCK_A_BYTES + 2 * _ALIGNMENT


@functools.cache
def compiled_product(dtype):
    """`_product` compiled for a dtype; its ``address`` is what kernels call. (Cached: it must outlive its callers.)"""
    real = {"f": types.float32, "d": types.float64}[np.dtype(dtype).char]
    return c_function(types.void(*[types.intp] * 15, real), _product)
