"""Large matrix products of float32 on CPUs with Intel's matrix unit (AMX): C = ending(A · B), as _gemm.py computes it.

The unit multiplies bfloat16, which has 8 binary digits, 16 times as fast as a CPU's vectors multiply float32, which has
24. So each number becomes the sum of three bfloat16, and of the nine products of such parts the six largest are summed,
in float32: what is left out is below 2^-21 of a product, 2^-24 on average (Henry, Tang, Heinecke, "Leveraging the
bfloat16 Artificial Intelligence Datatype For Higher-Precision Computations", ARITH 2019). Sums are as exact as those of
float32 by multiply-adds; NaN and infinity come out as from these. But numbers below 2^-126, and the parts of others
that are, count as 0: operands below 2^-102 lose digits.

Blocks of B, and two tiles of rows of A at a time, are cut into parts in scratch memory: A's rows, where they are
contiguous, while the unit is busy with the first columns. The order of a sum depends on the depth alone, and of the
last columns on how many they fill of a tile, so it is the same however callers divide the rows, and the columns by
multiples of BREADTH.
"""

import numpy as np
from numba import types

from ._amx_tile import (
    EDGE,
    MOST_TILES,
    NOT_FINITE,
    STEP,
    STEP_BYTES,
    configure,
    finish,
    multiply,
    multiply_rows,
    release,
    split_pairs,
    split_rows,
)
from ._caches import LINE_BYTES, odd_lines, round_up
from ._dtype import itemsize
from ._gemm import BIAS_SIGMOID, DOTS_BYTES, UPDATE, activate, columns_for_dots, floor_of, pack_columns, start_of
from ._jit import c_function, jit, once
from ._memory import load, store
from ._simd import has_amx
from ._tile import DOT_ROWS, dots
from ._transpose import transpose_full

BREADTH = 2 * EDGE  # rows, and columns, that are computed at once
BLOCK_STEPS = 16  # of depth, the longest sum of the unit's own; then it is added to C
BLOCK_COLUMNS, MOST_COLUMNS = 256, 1024  # of B: 800 KB, where blocks are that deep; of less deep blocks more
PAYS_FROM, ROWS_PAY_FROM, _LEAST_ROWS = 96, 41, 128  # of columns and rows, see `pays`
_TILE_BYTES = BLOCK_STEPS * STEP_BYTES
_ALL = 1 << 31  # more than the bits of any number

# Scratch memory: two tiles of rows of A, the tiles of columns of B, both again for what is finite; the addresses of
# those; a tile that is turned; the sums of a few tiles; and columns for `dots`.
_A_TILES, _B_TILES = 2, MOST_COLUMNS // EDGE
_FINITE = (_A_TILES + BLOCK_COLUMNS // EDGE) * _TILE_BYTES  # from a tile to that of what is finite
_SUMS = BREADTH * MOST_TILES * EDGE * 4
AMX_SCRATCH_BYTES = 2 * _FINITE + 8 * (_A_TILES + _B_TILES) + STEP_BYTES + _SUMS + DOTS_BYTES + 2 * LINE_BYTES


@jit
def pays(m, n, depth):
    """Is a product (m, depth) · (depth, n) large enough: are numbers multiplied often enough for being cut into parts?

    All of it, not a thread's share: how work is divided must not change results.
    """
    return m * n >= PAYS_FROM * (m + n) and depth >= PAYS_FROM


@jit
def pays_in_rows(m, n, depth):
    """The same where threads share out the rows of A alone, which are contiguous, in shares of several tiles.

    Such rows are cut while others are multiplied.
    """
    return m >= _LEAST_ROWS and m * n >= ROWS_PAY_FROM * (m + n) and depth >= PAYS_FROM


@jit
def _split_step(to, turned, x, x_line, x_depth, lines, depth, as_b, limit, one):
    """Cut one step of a tile, up to 16 lines (rows of A, columns of B): see `_split`. Returns the largest bits."""
    if x_depth == 1:
        largest = split_rows(turned if as_b else to, x, x_line, lines, depth, limit)
    else:
        largest = split_pairs(to if as_b else turned, x, x_depth, depth, lines, limit)
    if as_b == (x_depth == 1):
        for at in range(0, STEP_BYTES, EDGE * EDGE * 4):  # pairs of bfloat16 as one float32 each
            transpose_full(to + at, EDGE, turned + at, EDGE, EDGE, EDGE, one)
    return largest


@jit
def _split(to, tile_bytes, finite_at, turned, x, x_line, x_depth, lines, depth, as_b, one):
    """Cut tiles of A's rows, or of B's columns, into parts; store where each one's finite numbers are found.

    tile_bytes: from tile to tile. x_line, x_depth: elements from line to line, and along depth; one of them must be 1.
    """
    size, tiles, steps = itemsize(one), (lines + EDGE - 1) // EDGE, (depth + STEP - 1) // STEP
    for tile in range(tiles):
        store(finite_at, tile, to + tile * tile_bytes)
    is_finite = True
    for limit in (_ALL, NOT_FINITE):
        for step in range(steps):
            for tile in range(tiles):  # one beside the other, as they lie in memory
                to_step, finite = to + tile * tile_bytes + step * STEP_BYTES, load(finite_at, tile, 0)
                if limit == NOT_FINITE:
                    if finite == to + tile * tile_bytes:
                        continue
                    to_step += _FINITE
                x_step, left = x + (tile * EDGE * x_line + step * STEP * x_depth) * size, lines - tile * EDGE
                largest = _split_step(
                    to_step, turned, x_step, x_line, x_depth, left, depth - step * STEP, as_b, limit, one
                )
                if limit == _ALL and largest >= NOT_FINITE:
                    store(finite_at, tile, to + tile * tile_bytes + _FINITE)
                    is_finite = False
        if is_finite:
            return


def _product(m, n, depth, a, a_row, a_col, b, b_row, b_col, c, c_row, ending, v, v_row, scratch, one):
    """As `_product` of _gemm.py; alpha is 1. Rows or columns of A must be contiguous, and of B."""
    size, a_block = itemsize(one), round_up(scratch, LINE_BYTES)
    b_block = a_block + _A_TILES * _TILE_BYTES
    a_finite = a_block + 2 * _FINITE
    b_finite = a_finite + 8 * _A_TILES
    turned = round_up(b_finite + 8 * _B_TILES, LINE_BYTES)
    sums = turned + STEP_BYTES
    packed, packed_row = sums + _SUMS, odd_lines(depth, LINE_BYTES // size)
    left = columns_for_dots(m, n, depth, a_col, one)
    if left > 0:
        pack_columns(packed, packed_row, b + (n - left) * b_col * size, b_row, b_col, depth, left, one)
    configure()
    steps = (depth + STEP - 1) // STEP
    blocks = max(1, (steps + BLOCK_STEPS - 1) // BLOCK_STEPS)
    deepest = max(1, (steps + blocks - 1) // blocks)
    tile_bytes = deepest * STEP_BYTES
    block_columns = min(BLOCK_COLUMNS * BLOCK_STEPS // deepest // BREADTH * BREADTH, MOST_COLUMNS)
    for block in range(blocks):
        k0, k1 = steps * block // blocks * STEP, min(depth, steps * (block + 1) // blocks * STEP)
        k_steps = (k1 - k0 + STEP - 1) // STEP
        for j0 in range(0, n, block_columns):
            columns = min(block_columns, n - j0)
            tiled = min(columns, n - left - j0)
            tiles = (tiled + EDGE - 1) // EDGE
            b_0, floor = b + (k0 * b_row + j0 * b_col) * size, floor_of(ending, block == blocks - 1, one)
            _split(b_block, tile_bytes, b_finite, turned, b_0, b_col, b_row, tiled, k1 - k0, True, one)
            for i0 in range(0, m, BREADTH):
                rows, a_0 = min(BREADTH, m - i0), a + (i0 * a_row + k0 * a_col) * size
                of_block = ending if block == 0 else UPDATE
                first = 0  # columns that are done while A is cut
                if a_col == 1 and rows == BREADTH and tiles >= 2:
                    width = 2 + tiles % 2
                    largest = multiply_rows(
                        width, k_steps, k1 - k0, a_0, a_row, a_block, a_block + tile_bytes,
                        2 * STEP_BYTES if width < tiles else 0, turned, b_block, tile_bytes, sums,
                    )  # fmt: skip
                    if largest < NOT_FINITE:
                        store(a_finite, 0, a_block)
                        store(a_finite, 1, a_block + tile_bytes)
                        first = min(tiled, width * EDGE)
                        c_0 = c + (i0 * c_row + j0) * size
                        start, start_row = start_of(of_block, c_0, c_row, v + j0 * size, one)
                        finish(c_0, c_row, sums, start, start_row, rows, first, floor)
                if first == 0:
                    _split(a_block, tile_bytes, a_finite, turned, a_0, a_row, a_col, rows, k1 - k0, False, one)
                for j in range(first, tiled, BREADTH):
                    width, tile = min(BREADTH, tiled - j), j // EDGE
                    c_ij, b_j = c + (i0 * c_row + j0 + j) * size, b_block + tile * tile_bytes
                    start, start_row = start_of(of_block, c_ij, c_row, v + (j0 + j) * size, one)
                    multiply(
                        (rows + EDGE - 1) // EDGE, (width + EDGE - 1) // EDGE, k_steps,
                        a_block, a_block + tile_bytes, load(a_finite, 0, 0), load(a_finite, 1, 0),
                        b_j, b_j + tile_bytes, load(b_finite, tile, 0), load(b_finite, tile + 1, 0), sums,
                    )  # fmt: skip
                    finish(c_ij, c_row, sums, start, start_row, rows, width, floor)
                if tiled < columns:  # last, when A is near
                    c_j, packed_k = c + (i0 * c_row + j0 + tiled) * size, packed + k0 * size
                    start, start_row = start_of(of_block, c_j, c_row, v + (j0 + tiled) * size, one)
                    for i in range(0, rows, DOT_ROWS):
                        dots(
                            left, rows - i, k1 - k0, a_0 + i * a_row * size, a_row, packed_k, packed_row,
                            c_j + i * c_row * size, c_row, start + i * start_row * size, start_row, one, floor,
                        )  # fmt: skip
                if block == blocks - 1 and ending >= BIAS_SIGMOID:
                    at = (i0 * c_row + j0) * size
                    activate(c + at, c_row, rows, columns, ending, v + (i0 * v_row + j0) * size, v_row, one)
    release()


@once
def compiled_amx_product(dtype):
    """`_product` compiled; its ``address`` is what kernels call. None for float64, and where there is no such unit."""
    if np.dtype(dtype) != np.float32 or not has_amx():
        return None
    return c_function(types.void(*[types.intp] * 15, types.float32), _product)
