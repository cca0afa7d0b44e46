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

DEPTH_BYTES = 2048  # of a row of A in one block
BLOCK_ROWS = 12 * TILE_ROWS  # rows of A in one block
BLOCK_COLUMNS = 512  # columns of B in one block: whole panels of two vectors, whatever the CPU and dtype
PACK_A_COLUMNS = 512  # columns of B from which copying A pays
PACK_B_ROWS = 128  # rows of A from which copying B pays
_ALIGNMENT = 64  # A load that crosses a cache line costs two
_inline = register_jitable(inline="always")


@_inline
def _round_up(value, unit):
    return (value + unit - 1) // unit * unit


@_inline
def _block_depth(depth, alpha):
    """(blocks, depth of each but the last): as equal as whole vectors allow."""
    limit = DEPTH_BYTES // itemsize(alpha)
    blocks = max(1, (depth + limit - 1) // limit)
    return blocks, _round_up((depth + blocks - 1) // blocks, lanes(alpha))


@_inline
def _packs_a(n, a_row, a_col, alpha):
    """Where many panels use A; or its rows lie 2 KB · i apart, so that they displace each other from the cache."""
    stride = (a_row if a_row != 1 else a_col) * itemsize(alpha)
    return n >= PACK_A_COLUMNS or (stride % 2048 == 0 and stride != 0 and n > 2 * lanes(alpha))


@_inline
def _packs_b(m, b_col):
    return m >= PACK_B_ROWS or b_col != 1


@_inline
def _block_sizes(m, n, depth, a_row, a_col, b_col, alpha):
    """Bytes of scratch memory for a block of A and one of B."""
    size, panel = itemsize(alpha), 2 * lanes(alpha)
    _, block_depth = _block_depth(depth, alpha)
    a_bytes, b_bytes = 0, 0
    if _packs_a(n, a_row, a_col, alpha):
        padding = 2 * _ALIGNMENT // size
        a_bytes = (block_depth + padding) * _round_up(min(m, BLOCK_ROWS), lanes(alpha)) * size
    if _packs_b(m, b_col):
        b_bytes = block_depth * min(_round_up(n, panel), BLOCK_COLUMNS) * size
    return _round_up(a_bytes, _ALIGNMENT), b_bytes


@_inline
def scratch_bytes(m, n, depth, a_row, a_col, b_col, alpha):
    """Scratch memory that `product` needs for these arguments; never more than SCRATCH_BYTES."""
    a_bytes, b_bytes = _block_sizes(m, n, depth, a_row, a_col, b_col, alpha)
    return a_bytes + b_bytes + _ALIGNMENT if a_bytes + b_bytes > 0 else 0


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
    blocks, block_depth = _block_depth(depth, alpha)
    pack_a, pack_b = _packs_a(n, a_row, a_col, alpha), _packs_b(m, b_col)
    a_block = _round_up(scratch, _ALIGNMENT)
    b_block = a_block + _block_sizes(m, n, depth, a_row, a_col, b_col, alpha)[0]
    for j0 in range(0, n, BLOCK_COLUMNS):
        columns = min(BLOCK_COLUMNS, n - j0)
        for block in range(blocks):
            k0 = block * block_depth
            kc = min(block_depth, depth - k0)
            start, start_row, start_col = c, c_row, 1
            if block == 0 and ending != UPDATE:
                start, start_row, start_col = zero_row(alpha), 0, 0
                if ending in (BIAS, BIAS_RELU, BIAS_SIGMOID):
                    start, start_col = v, 1
            floor = zero_of(alpha) if ending == BIAS_RELU and block == blocks - 1 else -infinity_of(alpha)
            if pack_b:
                b_0 = b + (k0 * b_row + j0 * b_col) * size
                _pack_b(b_block, b_0, b_row, b_col, kc, columns, block_depth * panel, alpha)
            for i0 in range(0, m, BLOCK_ROWS):
                rows = min(BLOCK_ROWS, m - i0)
                a_0, a_0_row, a_0_col = a + (i0 * a_row + k0 * a_col) * size, a_row, a_col
                if pack_a:
                    a_0_row, a_0_col = _pack_a(a_block, a_0, a_row, a_col, rows, kc, alpha), 1
                    a_0 = a_block
                # Tiles of equal height, or one row more: a last tile of few rows would be slow.
                tiles = (rows + TILE_ROWS - 1) // TILE_ROWS
                height, taller = rows // tiles, rows % tiles
                breadth = 2 * panel if m == 1 and not pack_b else panel
                for j in range(0, columns, breadth):
                    width = min(breadth, columns - j)
                    b_j, b_j_row = b + (k0 * b_row + j0 + j) * size, b_row
                    if pack_b:
                        b_j, b_j_row = b_block + j * block_depth * size, panel
                    i = 0
                    for number in range(tiles):
                        h = height + 1 if number < taller else height
                        a_i = a_0 + i * a_0_row * size
                        c_i = c + ((i0 + i) * c_row + j0 + j) * size
                        s_i = start + ((i0 + i) * start_row + (j0 + j) * start_col) * size
                        tile(
                            h, width, kc, a_i, a_0_row, a_0_col, b_j, b_j_row, c_i, c_row, s_i, start_row, alpha, floor
                        )
                        i += h
                if block == blocks - 1 and ending >= BIAS_SIGMOID:
                    at = (i0 * c_row + j0) * size
                    _activate(c + at, c_row, rows, columns, ending, v + (i0 * v_row + j0) * size, v_row, alpha)


def _largest_scratch(itemsize):
    vector, depth, padding = VECTORS.bytes // itemsize, DEPTH_BYTES // itemsize, 2 * _ALIGNMENT // itemsize
    return ((depth + padding) * (BLOCK_ROWS + vector) + depth * BLOCK_COLUMNS) * itemsize + 2 * _ALIGNMENT


SCRATCH_BYTES = max(_largest_scratch(4), _largest_scratch(8))


@functools.cache
def compiled_product(dtype):
    """`_product` compiled for a dtype; its ``address`` is what kernels call. (Cached: it must outlive its callers.)"""
    real = {"f": types.float32, "d": types.float64}[np.dtype(dtype).char]
    return c_function(types.void(*[types.intp] * 15, real), _product)
