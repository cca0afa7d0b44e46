"""From arrays to the matrix product of _gemm.py: strides, scratch memory, threads. _product.py makes kernels of it."""

import functools

import numpy as np
from numba import types

from .._threads import limit
from ._amx import AMX_SCRATCH_BYTES, compiled_amx_product, pays
from ._dtype import itemsize, lanes, zero_of
from ._gemm import (
    BIAS,
    BIAS_RELU,
    BIAS_SIGMOID,
    RELU_GRADIENT,
    SIGMOID_GRADIENT,
    STORE,
    activate,
    compiled_product,
    scratch_bytes,
)
from ._jit import c_function, jit, once
from ._memory import allocate, call, free, load, on_stack, one_element, store
from ._parts import in_parts
from ._workers import launch_workers

# What is multiplied: the ending in the low bits, and
TRANSPOSE_A, TRANSPOSE_B, COLUMN_SUMS = 16, 32, 64  # COLUMN_SUMS: v = the sums of the columns of B
BY_AMX = 128
ENDING = 15

# Multiply-adds from which waking the threads pays (measured: bench/RESULTS.md).
PARALLEL_ABOVE = 180_000
# Features and weights from which there are halves for two threads, weights below which, and elements of C at most; see
# `_by_halves`.
_HALVED_DEPTH, _HALVED_WEIGHTS, _LARGE_WEIGHTS, _HALVED_SUMS = 256, 1 << 15, 1 << 19, 1 << 16
_ADDED_ALONE = 1 << 14  # elements that one thread adds up
_COLUMNS_FROM = 64  # depth: columns of shorter sums are not divided, as threads' parts of a row are beside each other
MIN_ROWS = 4  # of a share: the fewest rows that sum in the same order as any higher number
_EDGE = 12  # elements of C that a row or a column of a share, to be read, takes as long as


@jit
def share_of(length, unit, part, parts):
    """The bounds of a part of `length`, in whole units."""
    units = (length + unit - 1) // unit
    return min(length, units * part // parts * unit), min(length, units * (part + 1) // parts * unit)


@jit
def grid(m, n, panel, threads):
    """Divide C among threads into (parts of rows, parts of columns): the smallest shares, with what they read.

    Where both are alike, by rows, as optimizers divide W: what another thread wrote comes slowly. Not where C is large.
    """
    best, best_size = (1, 1), (m + _EDGE) * (n + panel + _EDGE)
    for row_parts in range(1, max(1, min(threads, m // MIN_ROWS)) + 1):
        column_parts = min(threads // row_parts, max(1, n // panel))
        rows = (m + row_parts - 1) // row_parts
        columns = min(n, ((n + panel - 1) // panel + column_parts - 1) // column_parts * panel)
        size = (rows + _EDGE) * (columns + _EDGE)
        if size < best_size or (size == best_size and m * n < _LARGE_WEIGHTS):
            best, best_size = (row_parts, column_parts), size
    return best


def _part(
    engine, amx, m, n, depth, a, a_row, a_col, b, b_row, b_col, c, c_row, ending, v, v_row, sums, second, no_memory,
    row_parts, column_parts, part, alpha,
):  # fmt: skip
    """One part of a product, and of the `sums` sums of columns; arrays by their addresses.

    second: memory for what the second half of the features comes to, see `_by_halves`; 0 where they are not halved.
    no_memory: set to 1 if there is none for scratch.
    """
    size, panel = itemsize(alpha), 2 * lanes(alpha)
    if second != 0:
        k, k_end = share_of(depth, 1, part // (row_parts * column_parts), 2)
        ending = BIAS if ending != STORE and k == 0 else STORE
        if k > 0:
            c, c_row, part = second, n, part - row_parts * column_parts
        a, b, depth = a + k * a_col * size, b + k * b_row * size, k_end - k
    i, i_end = share_of(m, 1, part // column_parts, row_parts)
    j, j_end = share_of(n, panel, part % column_parts, column_parts)
    rows, columns = i_end - i, j_end - j
    needed = scratch_bytes(rows, columns, depth, a_row, a_col, b_row, b_col, alpha)
    scratch = allocate(AMX_SCRATCH_BYTES if amx != 0 else needed)
    if scratch == 0:
        store(no_memory, 0, 1)
        return
    a_i, b_j = a + i * a_row * size, b + j * b_col * size
    c_ij, v_ij = c + (i * c_row + j) * size, v + (i * v_row + j) * size
    call(
        amx if amx != 0 else engine, rows, columns, depth, a_i, a_row, a_col, b_j, b_row, b_col,
        c_ij, c_row, ending, v_ij, v_row, scratch, alpha,
    )  # fmt: skip
    free(scratch)
    if sums > 0:  # by the same engine, as a row of ones times B
        j, j_end = share_of(sums, panel, part, row_parts * column_parts)
        columns, b_j, v_j = j_end - j, b + j * b_col * size, v + j * size
        scratch = allocate(scratch_bytes(1, columns, depth, 0, 0, b_row, b_col, alpha))
        if scratch == 0:
            store(no_memory, 0, 1)
            return
        call(
            engine, 1, columns, depth, one_element(alpha), 0, 0, b_j, b_row, b_col,
            v_j, columns, STORE, 0, 0, scratch, alpha,
        )  # fmt: skip
        free(scratch)


@jit
def _by_halves(form, m, n, depth):
    """Whether a product is the sum of two: of the first half of the features of x and W, and of the second.

    Two threads take a half each. So each goes on reading the x and W that it wrote, or read, before: that is the half
    whose rows of dW it computes, and which it updates. What another thread wrote comes as slowly as from memory.
    """
    if form not in (STORE, BIAS, BIAS_RELU, BIAS_SIGMOID) or m * n * depth <= PARALLEL_ABOVE:
        return False
    pays = depth >= _HALVED_DEPTH and _HALVED_WEIGHTS <= depth * n < _LARGE_WEIGHTS
    return pays and m <= depth // 4 and m * n <= _HALVED_SUMS


def _add_half(m, n, c, c_row, second, ending, parts, part, one):
    """C = ending(C + second), of some rows."""
    size, zero, first, end = itemsize(one), zero_of(one), m * part // parts, m * (part + 1) // parts
    for i in range(first, end):
        c_i, second_i = c + i * c_row * size, second + i * n * size
        for j in range(n):
            x = load(c_i, j, one) + load(second_i, j, one)
            store(c_i, j, zero if ending == BIAS_RELU and x <= zero else x)
    if ending == BIAS_SIGMOID:
        activate(c + first * c_row * size, c_row, end - first, n, ending, 0, 0, one)


@jit
def _share_out(threads, parts, function, before, alpha):
    if threads > 1:
        in_parts(threads, parts, function, before, (alpha,))
    else:
        for part in range(parts):
            call(function, *before, part, alpha)


def _multiply(functions, form, threads, m, n, depth, a, a_row, a_col, b, b_row, b_col, c, c_row, v, alpha):
    """C = ending(A · B), all by their addresses, by so many threads. functions: see `_Functions`.

    Returns 0; 1 if there was no memory for scratch.
    """
    ending, amx = form & ENDING, load(functions, AMX, 0) if form & BY_AMX else 0
    v_row = n if ending in (RELU_GRADIENT, SIGMOID_GRADIENT) else 0
    halves = 2 if _by_halves(form & ~BY_AMX, m, n, depth) else 1
    second, no_memory = 0, on_stack((0,))
    if halves == 2:
        second = allocate(m * n * itemsize(alpha))
        if second == 0:
            return 1
    unit = 2 * lanes(alpha) if depth >= _COLUMNS_FROM else n
    row_parts, column_parts = grid(m, n, unit, max(1, threads // halves))
    arguments = (
        load(functions, _PRODUCT, 0), amx, m, n, depth, a, a_row, a_col, b, b_row, b_col, c, c_row, ending, v, v_row,
        n if form & COLUMN_SUMS else 0, second, no_memory, row_parts, column_parts,
    )  # fmt: skip
    _share_out(threads, halves * row_parts * column_parts, load(functions, _PART, 0), arguments, alpha)
    if halves == 2:
        parts = threads if m * n > _ADDED_ALONE else 1
        _share_out(threads, parts, load(functions, _ADD_HALF, 0), (m, n, c, c_row, second, ending, parts), alpha)
        free(second)
    return load(no_memory, 0, 0)


_PART, _ADD_HALF, _PRODUCT, MULTIPLY, AMX = range(5)
UNKNOWN, NONE = 0, 1  # in place of the address of a product by AMX


class _Functions:
    """What is compiled for one dtype; ``addresses``: of `_part`, `_add_half`, product, `_multiply`, product by AMX."""

    def __init__(self, dtype):
        if dtype.char not in "fd" or not dtype.isnative:
            raise TypeError(f"fastnn: matrix products need float32 or float64, got {dtype}")
        real = types.float32 if dtype.char == "f" else types.float64
        launch_workers()
        part, add_half, multiply = (
            c_function(result(*[types.intp] * count, real), f)
            for result, f, count in ((types.void, _part, 22), (types.void, _add_half, 8), (types.intp, _multiply, 15))
        )
        self._compiled = part, add_half, compiled_product(dtype.char), multiply
        self.dtype = dtype
        self.addresses = np.array([*(compiled.address for compiled in self._compiled), UNKNOWN], np.intp)
        self._multiply = functools.partial(multiply.ctypes, self.addresses.ctypes.data)

    @functools.cached_property
    def by_amx(self):
        """BY_AMX, where there is such a product."""
        product = compiled_amx_product(self.dtype.char)
        self.addresses[AMX] = NONE if product is None else product.address
        return 0 if product is None else BY_AMX

    def multiply(self, a, b, v, c, form, threads):
        """c = ending(a · b), each transposed before if `form` says so."""
        m, depth, a_row, a_col = self._strides(a, form & TRANSPOSE_A)
        b_depth, n, b_row, b_col = self._strides(b, form & TRANSPOSE_B)
        _, _, c_row, _ = self._strides(c)
        if b_depth != depth or c.shape != (m, n) or (v is not None and v.size not in (n, m * n)):
            shapes = ", ".join(str(array.shape) for array in (a, b, v, c) if array is not None)
            raise ValueError(f"fastnn: the shapes of a matrix product must fit each other, got {shapes}")
        a_0, b_0, c_0, v_0 = (0 if array is None else array.ctypes.data for array in (a, b, c, v))
        sizes, operands = (m, n, depth), (a_0, a_row, a_col, b_0, b_row, b_col, c_0, c_row, v_0)
        if self._multiply(form, threads, *sizes, *operands, 1):
            raise MemoryError(f"fastnn: no memory for the scratch of a matrix product of shape ({m}, {n})")

    def _strides(self, a, transpose=0):
        """(rows, columns, row stride, column stride); along an axis of length 1 NumPy's stride may be anything."""
        m, n = a.shape
        row = a.strides[0] // a.itemsize if m > 1 else n
        col = a.strides[1] // a.itemsize if n > 1 else 1
        return (n, m, col, row) if transpose else (m, n, row, col)


@once
def functions_for(dtype):
    """See `_Functions`."""
    return _Functions(dtype)


def multiply(a, b, v, c, form):
    """c = ending(a · b), overwritten; a, b: transposed before if `form` says so.

    v: bias; column sums; all elements of a matrix of c's shape, row by row, for the endings of gradients; or None.
    """
    functions = functions_for(a.dtype)
    if len(dtypes := {array.dtype for array in (a, b, v, c) if array is not None}) > 1:
        raise TypeError(f"fastnn: matrix products need one dtype, got {', '.join(sorted(map(str, dtypes)))}")
    if c.strides[1] != c.itemsize and c.size > 0:
        by_rows = np.empty(c.shape, c.dtype)
        multiply(a, b, v, by_rows, form)
        c[...] = by_rows
        return
    (m, n), depth = c.shape, a.size // max(c.shape[0], 1)
    if m * n * depth <= PARALLEL_ABOVE:
        functions.multiply(a, b, v, c, form, 1)
        return
    is_plain = all(array.itemsize in array.strides for array in (a, b))
    if is_plain and pays(m, n, depth):
        form |= functions.by_amx
    functions.multiply(a, b, v, c, form, limit.threads)
