"""From arrays to the matrix product of _gemm.py: strides, scratch memory, threads.

Numba compiles a function again for every combination of memory layouts and read-only flags of its arguments. Here each
dtype has one signature, of matrices with arbitrary strides that need not be writable, which all of them convert to.
"""

import functools

import numpy as np
from numba import types

from ._amx import AMX_SCRATCH_BYTES, compiled_amx_product, pays
from ._dtype import itemsize, lanes, one_of
from ._gemm import RELU_GRADIENT, SIGMOID_GRADIENT, STORE, compiled_product, scratch_bytes
from ._jit import c_function, entry, jit
from ._memory import address, call, keep, load, one_element
from ._parts import in_parts
from ._threads import launch_threads, on_threads

# What is multiplied: the ending in the low bits, and
TRANSPOSE_A, TRANSPOSE_B, COLUMN_SUMS = 16, 32, 64  # COLUMN_SUMS: v = the sums of the columns of B
_BY_AMX = 128
_ENDING = 15

# Multiply-adds from which waking the threads pays (measured: bench/RESULTS.md).
PARALLEL_ABOVE = 400_000
MIN_ROWS = 4  # of a share: the fewest rows that sum in the same order as any higher number
_EDGE = 12  # elements of C that a row or a column of a share, to be read, takes as long as

_DONE, _NEEDS_THREADS, _PAYS_BY_AMX, _UNWRITABLE = range(4)


@jit
def _strides(a, transpose):
    """(rows, columns, row stride, column stride); along an axis of length 1 NumPy's stride may be anything."""
    m, n = a.shape
    row = a.strides[0] // a.itemsize if m > 1 else n
    col = a.strides[1] // a.itemsize if n > 1 else 1
    if transpose:
        return n, m, col, row
    return m, n, row, col


@jit
def share_of(length, unit, part, parts):
    """The bounds of a part of `length`, in whole units."""
    units = (length + unit - 1) // unit
    return min(length, units * part // parts * unit), min(length, units * (part + 1) // parts * unit)


@jit
def grid(m, n, panel, threads):
    """Divide C among threads into (parts of rows, parts of columns): the smallest shares, with what they read."""
    best, best_size = (1, 1), (m + _EDGE) * (n + panel + _EDGE)
    for row_parts in range(1, max(1, min(threads, m // MIN_ROWS)) + 1):
        column_parts = min(threads // row_parts, max(1, n // panel))
        rows = (m + row_parts - 1) // row_parts
        columns = min(n, ((n + panel - 1) // panel + column_parts - 1) // column_parts * panel)
        size = (rows + _EDGE) * (columns + _EDGE)
        if size < best_size:
            best, best_size = (row_parts, column_parts), size
    return best


def _part(
    engine, amx, m, n, depth, a, a_row, a_col, b, b_row, b_col, c, c_row, ending, v, v_row, sums, sum_0, sum_row,
    sum_col, row_parts, column_parts, part, alpha,
):  # fmt: skip
    """One part of a product, and of the `sums` sums of columns; arrays by their addresses."""
    size, panel = itemsize(alpha), 2 * lanes(alpha)
    i, i_end = share_of(m, 1, part // column_parts, row_parts)
    j, j_end = share_of(n, panel, part % column_parts, column_parts)
    rows, columns = i_end - i, j_end - j
    needed = scratch_bytes(rows, columns, depth, a_row, a_col, b_row, b_col, alpha)
    scratch = np.empty(AMX_SCRATCH_BYTES if amx != 0 else needed, np.uint8)
    a_i, b_j = a + i * a_row * size, b + j * b_col * size
    c_ij, v_ij = c + (i * c_row + j) * size, v + (i * v_row + j) * size
    call(
        amx if amx != 0 else engine, rows, columns, depth, a_i, a_row, a_col, b_j, b_row, b_col,
        c_ij, c_row, ending, v_ij, v_row, address(scratch), alpha,
    )  # fmt: skip
    keep(scratch)
    if sums > 0:  # by the same engine, as a row of ones times B
        j, j_end = share_of(sums, panel, part, row_parts * column_parts)
        columns, b_j, v_j = j_end - j, sum_0 + j * sum_col * size, v + j * size
        scratch = np.empty(scratch_bytes(1, columns, depth, 0, 0, sum_row, sum_col, alpha), np.uint8)
        call(
            engine, 1, columns, depth, one_element(alpha), 0, 0, b_j, sum_row, sum_col,
            v_j, columns, STORE, 0, 0, address(scratch), alpha,
        )  # fmt: skip
        keep(scratch)


_the_part = jit(_part)


@functools.cache
def _compiled_part(real):
    return c_function(types.void(*[types.intp] * 23, real), _part)


def _multiply(functions, a, b, v, c, form, threads):
    """c = ending(a · b), each transposed before if `form` says so, by `threads` threads (0: not known yet).

    functions: where their addresses are, as an argument takes 0.02 µs: of `_part`, of the product, of that by AMX.
    """
    m, depth, a_row, a_col = _strides(a, form & TRANSPOSE_A)
    _, n, b_row, b_col = _strides(b, form & TRANSPOSE_B)
    _, _, c_row, c_col = _strides(c, 0)
    if threads == 0 and m * n * depth > PARALLEL_ABOVE:
        is_plain = (a_row == 1 or a_col == 1) and (b_row == 1 or b_col == 1)
        return _PAYS_BY_AMX if is_plain and pays(m, n, depth) else _NEEDS_THREADS
    alpha, ending, engine = one_of(a), form & _ENDING, load(functions, 1, 0)
    amx = load(functions, 2, 0) if form & _BY_AMX else 0
    v_row = n if ending in (RELU_GRADIENT, SIGMOID_GRADIENT) else 0
    a_0, b_0, c_0, v_0 = address(a), address(b), address(c), address(v)
    of_sums = n if form & COLUMN_SUMS else 0, b_0, b_row, b_col
    if c_col != 1 and m * n > 0:
        if c_row != 1 or ending != STORE:
            return _UNWRITABLE
        # Cᵀ = Bᵀ · Aᵀ
        m, n, c_row = n, m, c_col
        a_0, a_row, a_col, b_0, b_row, b_col = b_0, b_col, b_row, a_0, a_col, a_row
    row_parts, column_parts = grid(m, n, 2 * lanes(alpha), max(threads, 1))
    parts = row_parts * column_parts
    arguments = (
        engine, amx, m, n, depth, a_0, a_row, a_col, b_0, b_row, b_col, c_0, c_row, ending, v_0, v_row, *of_sums,
        row_parts, column_parts,
    )  # fmt: skip
    if parts > 1:
        in_parts(threads, parts, load(functions, 0, 0), arguments, (alpha,))
    else:
        _the_part(*arguments, 0, alpha)
    return _DONE


class _Kernels:
    """What is compiled for one dtype."""

    def __init__(self, dtype):
        if dtype.char not in "fd" or not dtype.isnative:
            raise TypeError(f"fastnn: matrix products need float32 or float64, got {dtype}")
        real = types.float32 if dtype.char == "f" else types.float64
        self._functions = np.array([_compiled_part(real).address, compiled_product(dtype.char).address, 0], np.intp)
        self.functions = self._functions.ctypes.data
        self.nothing = np.empty(0, dtype)
        launch_threads()
        self.multiply = entry(_multiply)
        matrix, vector = (types.Array(real, axes, "A", readonly=True) for axes in (2, 1))
        # v is read-only to its type so that a bias may be; COLUMN_SUMS writes it through its address.
        self.multiply.compile(
            types.intp(types.intp, matrix, matrix, vector, types.Array(real, 2, "A"), types.intp, types.intp)
        )
        self.multiply.disable_compile()  # from here on arguments are converted to this signature

    @functools.cached_property
    def by_amx(self):
        """_BY_AMX, where there is such a product."""
        if (product := compiled_amx_product(self.nothing.dtype.char)) is None:
            return 0
        self._functions[2] = product.address
        return _BY_AMX


_kernels = {}


def multiply(a, b, v, c, form):
    """c = ending(a · b), overwritten; a, b: transposed before if `form` says so.

    v: bias; column sums; all elements of a matrix of c's shape, row by row, for the endings of gradients; or None.
    """
    kernels = _kernels.get(a.dtype) or _kernels.setdefault(a.dtype, _Kernels(a.dtype))
    if v is None:
        v = kernels.nothing
    result = kernels.multiply(kernels.functions, a, b, v, c, form, 0)
    if result in (_NEEDS_THREADS, _PAYS_BY_AMX):
        form |= kernels.by_amx if result == _PAYS_BY_AMX else 0
        result = on_threads(kernels.multiply, kernels.functions, a, b, v, c, form)
    if result == _UNWRITABLE:
        raise ValueError(f"fastnn: an output of strides {c.strides} has no contiguous axis")
