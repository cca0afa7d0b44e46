"""Kernels that are a matrix product, called past Numba's dispatcher where their arrays are as layers have them.

    @product(BIAS)
    def affine_forward(x, W, b, out): ...

makes a kernel; see _objects.py for ``kernel.at_once``. Operands of other strides, and outputs whose rows lie any
distance apart, take some microseconds more.
"""

import functools

import numpy as np

from ._amx import pays
from ._gemm import RELU_GRADIENT, SIGMOID_GRADIENT, STORE
from ._jit import jit
from ._matrices import (
    AMX,
    BY_AMX,
    COLUMN_SUMS,
    ENDING,
    MULTIPLY,
    NONE,
    PARALLEL_ABOVE,
    TRANSPOSE_A,
    TRANSPOSE_B,
    UNKNOWN,
    functions_for,
    multiply,
)
from ._memory import ask, load
from ._objects import (
    ALIGNED,
    BY_COLUMNS,
    CONTIGUOUS,
    CONTIGUOUS_ALIGNED,
    DATA,
    DESCR,
    ERROR,
    FLAGS,
    FLOAT32,
    FLOAT64,
    NDARRAY,
    NO,
    OWN,
    SHAPE,
    TYPE,
    WRITEABLE,
    YES,
    answer,
    begin_work,
    end_work,
    is_plain,
    ndim,
    no_memory,
    python_function,
    read,
    same_shape,
    table_of,
)


def product(form):
    """Make a kernel of (a, b, v, c), of (a, b, c) where `form` needs no v, or of (a, b, c, v) with sums of columns."""

    def decorate(function):
        table = table_of(form, 0, 0)

        @functools.wraps(function)
        def kernel(*args):
            if kernel.at_once and kernel.at_once(*args):
                return
            a, b, v, c = _in_order(form, *args)
            functions = functions_for(a.dtype)
            table[(_OF_FLOAT32 if a.dtype.char == "f" else _OF_FLOAT64) // 8] = functions.addresses.ctypes.data
            kernel.at_once = kernel.at_once or python_function(_at_once, table)
            multiply(a, b, None if v is None else v.ravel(), c, form)

        kernel.at_once = None
        return kernel

    return decorate


def _in_order(form, a, b, *others):
    if form & COLUMN_SUMS:
        return a, b, *others[::-1]
    return a, b, *[None] * (2 - len(others)), *others


_FORM, _OF_FLOAT32, _OF_FLOAT64 = range(OWN, OWN + 24, 8)


@jit
def _is_operand(table, obj, dtype):
    """Whether it is a matrix whose rows or columns follow each other without gaps."""
    is_matrix = is_plain(table, obj, dtype, ALIGNED) and ndim(obj) == 2
    return is_matrix and read(obj, FLAGS) & (CONTIGUOUS | BY_COLUMNS) != 0


@jit
def _axes(obj, transpose):
    """(rows, columns, row stride, column stride) of an operand."""
    m, n = read(read(obj, SHAPE), 0), read(read(obj, SHAPE), 8)
    row, col = (n, 1) if read(obj, FLAGS) & CONTIGUOUS else (1, m)
    return (n, m, col, row) if transpose else (m, n, row, col)


@jit
def _is_vector(table, obj, dtype, size):
    return is_plain(table, obj, dtype, CONTIGUOUS_ALIGNED) and ndim(obj) == 1 and read(read(obj, SHAPE), 0) == size


@jit
def _work(table, args, count):
    """Do what is asked if all is as it should be; whether it was done, or there was an exception."""
    form, a, b, c = read(table, _FORM), read(args, 0), read(args, 8), read(args, 8 * (count - 1))
    ending, has_sums = form & ENDING, form & COLUMN_SUMS != 0
    has_v = ending != STORE or has_sums
    if count != (4 if has_v else 3) or read(a, TYPE) != read(table, NDARRAY):
        return NO
    v, dtype, functions = read(args, 16), read(a, DESCR), 0
    if has_sums:
        v, c = c, v
    if dtype == read(table, FLOAT32):
        functions = read(table, _OF_FLOAT32)
    elif dtype == read(table, FLOAT64):
        functions = read(table, _OF_FLOAT64)
    # Of x and dout layers keep what they were given: it must be as kernels of all kinds take it.
    kept = CONTIGUOUS_ALIGNED | WRITEABLE
    if functions == 0 or not (is_plain(table, a, dtype, kept) and ndim(a) == 2 and _is_operand(table, b, dtype)):
        return NO
    m, depth, a_row, a_col = _axes(a, form & TRANSPOSE_A)
    b_depth, n, b_row, b_col = _axes(b, form & TRANSPOSE_B)
    work = m * n * depth
    if b_depth != depth or work == 0 or not (is_plain(table, c, dtype, kept) and ndim(c) == 2):
        return NO
    if read(read(c, SHAPE), 0) != m or read(read(c, SHAPE), 8) != n:
        return NO
    if has_v:
        if ending in (RELU_GRADIENT, SIGMOID_GRADIENT):
            if not (is_plain(table, v, dtype, CONTIGUOUS_ALIGNED) and same_shape(v, c)):
                return NO
        elif not (_is_vector(table, v, dtype, n) and (not has_sums or read(v, FLAGS) & WRITEABLE)):
            return NO
    is_large = work > PARALLEL_ABOVE
    if is_large and pays(m, n, depth):
        if load(functions, AMX, 0) == UNKNOWN:
            return NO
        form |= BY_AMX if load(functions, AMX, 0) != NONE else 0
    a_0, b_0, c_0, v_0 = read(a, DATA), read(b, DATA), read(c, DATA), read(v, DATA) if has_v else 0
    threads, python = begin_work(table, is_large)
    if threads == 0:
        return ERROR
    arguments = functions, form, threads, m, n, depth, a_0, a_row, a_col, b_0, b_row, b_col, c_0, n, v_0
    if dtype == read(table, FLOAT32):
        failed = ask(load(functions, MULTIPLY, 0), *arguments, np.float32(1))
    else:
        failed = ask(load(functions, MULTIPLY, 0), *arguments, np.float64(1))
    end_work(is_large, python)
    if failed != 0:
        no_memory()
        return ERROR
    return YES


def _at_once(table, args, count):
    """What Python calls; see _objects.py."""
    table = read(table, DATA)
    return answer(table, _work(table, args, count))
