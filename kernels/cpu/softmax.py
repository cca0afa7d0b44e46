"""Softmax and its logarithm over rows. Sibling: kernels/ref/softmax.py.

y[n,c] = exp(x[n,c] - m[n]) / s[n]      m = row max,  s[n] = sum_c exp(x[n,c] - m[n])
dx[n,c] = y[n,c] · (dout[n,c] - sum_c dout[n,c] · y[n,c])

All arrays (N, C), contiguous, of one dtype; sums in that dtype. Rows of few classes are transposed, so that samples lie
in the lanes of vectors: a row by itself would not fill them, and what is left of it after whole vectors is computed
element by element. Max shift: Blanchard, Higham, Higham, IMA J. Numer. Anal. 41 (2021).
"""

import numpy as np
from numba import prange

from ._caches import LINE_BYTES, PAST_CACHES, round_up
from ._dtype import infinity_of, itemsize, lanes, one_of, zero_of
from ._elementwise import in_vectors
from ._jit import jit
from ._math import exp_negative, larger
from ._memory import address, fence, keep, load, prefetch, scale_past_caches, store
from ._prange import cpu_kernel
from ._reduce import row_dot, row_max, row_sum
from ._transpose import transpose_full, transpose_masked, transpose_masked_store

FEW = 64  # classes: with more, a row by itself is faster
_SINGLY = 480  # elements of all rows of few classes: with more, transposing them is faster
_VECTORS = 8  # of samples, transposed together
_BLOCK = 4096  # elements of rows that are taken together without being transposed; longer ones singly
_LARGE_BLOCK = 2**18  # elements of rows that go past all caches
_PIECE, _AHEAD = 128, 1024  # elements of a long row at a time; the next row is fetched so many before they are read
STATISTICS = 4  # rows of a block's scratch before the transposed classes


@jit
def block_of_rows(x, past_caches=False):
    """How many rows to hand to `softmax_block`: they stay in the first-level cache. Or to `softmax_past_caches`."""
    N, C = x.shape
    if C >= FEW:
        return max(1, (_LARGE_BLOCK if past_caches else _BLOCK) // C)
    pair = 2 * lanes(one_of(x))
    return min(_VECTORS // 2 * pair, round_up(N, pair))


@jit
def block_scratch(x, past_caches=False):
    """Memory for both. For each row of x: a factor, the row's maximum, its sum, and one for the caller."""
    C, width = x.shape[1], lanes(one_of(x))
    classes = round_up(C, width) if C < FEW else 0
    return np.empty((STATISTICS + classes, block_of_rows(x, past_caches)), x.dtype)


@jit
def goes_past_caches(x, y):
    """Whether rows are so long, and so many, that y should not be written into the caches."""
    return x.shape[1] >= _BLOCK and x.size * x.itemsize >= PAST_CACHES and address(x) != address(y)


@jit
def softmax_block(x, y, scratch):
    """y = factor · softmax of each of a few rows x; y may be x. See `block_scratch`."""
    rows, C = x.shape
    if C < FEW:
        _few_classes(x, y, scratch)
        return
    row = C * y.itemsize
    for n in range(rows):
        scratch[1, n] = m = row_max(address(x) + n * row, C, one_of(x))
        for c in range(C):
            y[n, c] = x[n, c] - m
    _exp_in_place(address(y), rows * C, one_of(x))
    for n in range(rows):
        scratch[2, n] = s = row_sum(address(y) + n * row, C, one_of(x))
        q = scratch[0, n] / s
        for c in range(C):
            y[n, c] *= q


@jit
def _exp_in_place(y, n, like):
    """y = exp(y) of elements at an address, none above 0. Of all rows at once: one row may not fill its last vector."""
    in_vectors()
    for i in range(n):
        store(y, i, exp_negative(load(y, i, like)))


@jit
def softmax_past_caches(x, y, scratch):
    """The same of long rows, none in place: memory is read and written all the time, and hardly ever waited for.

    While the exponentials of a row are computed, the next row is fetched, its maximum found, and the last one, whose
    sum is known by then, written. The exponentials of both stay in the second-level cache.
    """
    rows, C = x.shape
    size, width = x.itemsize, lanes(one_of(x))
    factor, m, s = scratch[0], scratch[1], scratch[2]
    row, e_row = C * size, round_up(C * size, LINE_BYTES)
    memory = np.empty(2 * e_row + LINE_BYTES, np.uint8)
    e = address(memory) + -address(memory) % LINE_BYTES
    m[0], q = row_max(address(x), C, one_of(x)), one_of(x)
    for n in range(rows + 1):
        this, last = e + n % 2 * e_row, e + (n + 1) % 2 * e_row
        source, to = address(x) + n * row, address(y) + (n - 1) * row
        total, next_max = zero_of(x), -infinity_of(x)
        head = -to % (width * size) // size  # elements before the first whole vector
        for c in range(0, C, _PIECE):
            end = min(C, c + _PIECE)
            if n < rows:
                _fetch(source + row + (c + _AHEAD) * size, size)
                store_exp(source + c * size, m[n], this + c * size, end - c)
                total += row_sum(this + c * size, end - c, m[n])
            if n < rows - 1:
                next_max = larger(row_max(source + row + c * size, end - c, m[n]), next_max)
            if n > 0:
                for i in range(head + c, min(head + c + _PIECE, C - width + 1), width):
                    scale_past_caches(to + i * size, last + i * size, q)
        if n > 0:
            _scale(last, q, to, 0, head)
            _scale(last, q, to, C - (C - head) % width, C)
        if n < rows:
            s[n], q = total, factor[n] / total
        if n < rows - 1:
            m[n + 1] = next_max
    fence()
    keep(memory)


@jit
def _fetch(address, size):
    for line in range(0, _PIECE * size, LINE_BYTES):
        prefetch(address + line)


@jit
def store_exp(x, m, y, n):
    """y = exp(x - m) of n elements, elsewhere. At addresses: counting an array as used takes as long."""
    in_vectors()
    for i in range(n):
        store(y, i, exp_negative(load(x, i, m) - m))


@jit
def _scale(e, q, y, first, end):
    for i in range(first, end):
        store(y, i, q * load(e, i, q))


@jit
def _few_classes(x, y, scratch):
    factor, m, s, columns = scratch[0], scratch[1], scratch[2], scratch[STATISTICS:]
    to_columns(x, columns)
    max_of_columns(columns, x.shape[1], m)
    s[:] = zero_of(x)
    for c in range(x.shape[1]):
        _add_exp(columns[c], m, s)
    for r in range(s.size):
        factor[r] /= s[r]
    for c in range(x.shape[1]):
        _multiply(columns[c], factor)
    to_rows(columns, y)


@jit
def _row_by_row(x, y):
    """The same of so few rows that transposing them takes longer; to the bit."""
    rows, C = x.shape
    for n in range(rows):
        m = x[n, 0]
        for c in range(1, C):
            m = larger(x[n, c], m)
        for c in range(C):
            y[n, c] = x[n, c] - m
    _exp_in_place(address(y), rows * C, one_of(x))
    for n in range(rows):
        s = zero_of(x)
        for c in range(C):
            s += y[n, c]
        q = one_of(x) / s
        for c in range(C):
            y[n, c] *= q


@jit
def max_of_columns(columns, C, m):
    for r in range(m.size):  # an assignment of the whole row takes 1.5 s to compile
        m[r] = columns[0, r]
    for c in range(1, C):
        column = columns[c]
        for r in range(m.size):
            m[r] = larger(column[r], m[r])


@jit
def _add_exp(column, m, s):
    in_vectors()
    for r in range(column.size):
        column[r] = exp_negative(column[r] - m[r])
        s[r] += column[r]


@jit
def _multiply(column, factor):
    in_vectors()
    for r in range(column.size):
        column[r] *= factor[r]


@jit
def to_columns(x, columns):
    """columns[c, n] = x[n, c]; the remaining columns of the last vector of samples are zeros."""
    rows, C = x.shape
    width, size, like = lanes(one_of(x)), itemsize(one_of(x)), one_of(x)
    row = columns.shape[1]
    for n in range(0, row, width):
        for c in range(0, C, width):
            to, source = address(columns) + (c * row + n) * size, address(x) + (n * C + c) * size
            if n + width <= rows and c + width <= C:
                transpose_full(to, row, source, C, width, width, like)
            else:
                transpose_masked(to, row, source, C, rows - n, C - c, like)


@jit
def to_rows(columns, y):
    """y[n, c] = columns[c, n]"""
    rows, C = y.shape
    width, size, like = lanes(one_of(y)), itemsize(one_of(y)), one_of(y)
    row = columns.shape[1]
    for n in range(0, rows, width):
        for c in range(0, C, width):
            to, source = address(y) + (n * C + c) * size, address(columns) + (c * row + n) * size
            if n + width <= rows and c + width <= C:
                transpose_full(to, C, source, row, width, width, like)
            else:
                transpose_masked_store(to, C, source, row, rows - n, C - c, like)


@jit
def softmax_rows(x, y):
    """y = softmax of the rows of x; y may be x."""
    if x.size <= _SINGLY and x.shape[1] < FEW:
        _row_by_row(x, y)
        return
    block, scratch = block_of_rows(x), block_scratch(x)
    for first in range(0, x.shape[0], block):
        rows = slice(first, min(x.shape[0], first + block))
        scratch[0] = one_of(x)
        softmax_block(x[rows], y[rows], scratch)


@cpu_kernel(parallel_above=12_000)
def softmax_forward(x, y):
    past_caches = goes_past_caches(x, y)
    block = block_of_rows(x, past_caches)
    for i in prange((x.shape[0] + block - 1) // block):
        rows = slice(i * block, min(x.shape[0], (i + 1) * block))
        scratch = block_scratch(x, past_caches)
        scratch[0] = one_of(x)
        if past_caches:
            softmax_past_caches(x[rows], y[rows], scratch)
        else:
            softmax_block(x[rows], y[rows], scratch)


@cpu_kernel(parallel_above=16_000)
def softmax_backward(dout, y, dx):
    C = y.shape[1]
    for n in prange(y.shape[0]):
        row = n * C * y.itemsize
        dot = row_dot(address(dout) + row, address(y) + row, C, one_of(y))
        for c in range(C):
            dx[n, c] = y[n, c] * (dout[n, c] - dot)
