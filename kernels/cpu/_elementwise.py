"""Kernels of one loop over elements: compiled once a dtype, as C functions of addresses, and called without detours.

    @elementwise(parallel_above=50_000)
    def sigmoid_forward(x, out, n):
        in_vectors()
        for i in range(n):
            out[i] = sigmoid(widen(x[i]))

makes the kernel ``sigmoid_forward(x, out)`` of arrays of any shape. The first argument may be float16, which `widen`
reads as float32, in which all else then is. The output, the last, may be one of the inputs, or overlaps none.

All goes past Numba's dispatcher, see _objects.py for ``kernel.at_once``: small arrays because of its 0.3 µs, large ones
because what Python does before it takes 6, half as long as the work on a hundred thousand elements.
"""

import functools
import inspect

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic, overload

from .._threads import limit
from ._caches import LINE_BYTES, PAST_CACHES
from ._jit import c_function, jit, once
from ._memory import call, copy_past_caches, fence, page_on_stack, prefetch
from ._objects import (
    DATA,
    DESCR,
    ERROR,
    FLAGS,
    FLOAT,
    FLOAT16,
    FLOAT32,
    FLOAT64,
    NDARRAY,
    NO,
    OWN,
    SHAPE,
    TYPE,
    VALUE,
    WRITEABLE,
    YES,
    answer,
    begin_work,
    end_work,
    is_plain,
    ndim,
    python_function,
    read,
    same_shape,
    table_of,
)
from ._parts import in_parts
from ._simd import VECTORS
from ._workers import launch_workers


@intrinsic
def in_vectors(typing_context):
    """Promise LLVM that the pointers of the function in which this stands do not overlap, and ask for wide vectors.

    That an output may be exactly an input does no harm where each element is read, then written, and not looked at
    again; without the promise the loop would test for overlap first, and not be vectorised in place. Most CPUs with
    AVX-512 are given vectors of half the width unless asked: sigmoid 0.31 instead of 0.26 ns an element.
    """

    def code(context, builder, signature, args):
        for arg in builder.function.args:
            if isinstance(arg.type, ir.PointerType):
                arg.add_attribute("noalias")
        set.add(builder.function.attributes, '"prefer-vector-width"="512"')  # llvmlite itself takes only named ones
        return context.get_dummy_value()

    return types.void(), code


def widen(value):
    """The value as it is; of a float16, read as uint16, the float32."""
    raise NotImplementedError("for use in compiled code")


@overload(widen)
def _widen(value):
    if value != types.uint16:
        return lambda value: value
    return (lambda value: _half_bits(value)) if VECTORS.name == "generic" else (lambda value: _half(value))


@intrinsic
def _half(typing_context, bits):
    def code(context, builder, signature, args):
        return builder.fpext(builder.bitcast(args[0], ir.HalfType()), ir.FloatType())

    return types.float32(bits), code


_UP, _LIMIT, _INFINITY = np.float32(2.0**112), np.float32(2.0**16), np.uint32(0x7F800000)
_SIGN, _REST, _13, _16 = np.uint32(0x8000), np.uint32(0x7FFF), np.uint32(13), np.uint32(16)


@jit
def _half_bits(bits):
    """The same without an instruction for it, where LLVM would call a function that need not be there."""
    bits = np.uint32(bits)
    value = np.uint32((bits & _REST) << _13).view(np.float32) * _UP  # the exponents' biases differ by 112
    special = _INFINITY if value >= _LIMIT else np.uint32(0)
    return np.uint32(np.float32(value).view(np.uint32) | special | np.uint32((bits & _SIGN) << _16)).view(np.float32)


def elementwise(parallel_above, scalars=()):
    """Make a kernel of a loop over n elements; see above.

    Parameters
    ----------
    parallel_above : int
        Elements above which waking the threads pays (measured: bench/RESULTS.md).
    scalars : tuple of str
        Arguments that are Python floats: the loop finds them as ``alpha[0]``, in float64.
    """

    def decorate(loop):
        names = list(inspect.signature(loop).parameters)[:-1]
        table = _table(parallel_above, len(names))

        @once
        def compiled(dtype):
            computed = types.float64 if dtype == np.float64 else types.float32
            elements = [types.float64 if name in scalars else computed for name in names]
            if dtype == np.float16:
                elements[0] = types.uint16
            function = c_function(types.void(*map(types.CPointer, elements), types.intp), loop)
            table[_SHARE // 8 : _SHARE // 8 + 2] = [compiled.address for compiled in _shares()]
            table[_LOOPS // 8 + _DTYPES.index(dtype)] = function.address
            kernel.at_once = kernel.at_once or python_function(_at_once, table)
            return function

        @functools.wraps(loop)
        def kernel(*args):
            if kernel.at_once and kernel.at_once(*args):
                return
            loop, n = compiled(args[0].dtype).address, args[0].size
            if kernel.at_once(*args):
                return
            arrays = [np.float64([a]) if name in scalars else a.ravel() for name, a in zip(names, args, strict=True)]
            data = [a.ctypes.data for a in arrays]
            sizes = [0 if name in scalars else a.itemsize for name, a in zip(names, arrays, strict=True)]
            data[-1:-1] = sizes[-1:-1] = [0] * (4 - len(names))  # the output is the fourth, however many there are
            share, part = _shares()
            threads = limit.threads if n > parallel_above else 1
            share.ctypes(loop, len(names), *data, *sizes, n, threads, part.address)

        kernel.__signature__ = inspect.Signature(
            [inspect.Parameter(name, inspect.Parameter.POSITIONAL_OR_KEYWORD) for name in names]
        )
        kernel.at_once = None
        return kernel

    return decorate


_CHUNK = 64  # elements: shares are multiples of it, so that threads do not write into the same piece of cache
_BLOCK, _AHEAD = 256, 2048  # elements: so many at a time, and so far ahead are they fetched, where they are in memory
_NEAR, _FETCHED, _STREAMED = range(3)  # where arrays are, see `_piece`


@jit
def _block(loop, count, a, b, c, out, a_size, b_size, c_size, size, first, end):
    """Elements from `first` up to `end`."""
    a, b, out, n = a + first * a_size, b + first * b_size, out + first * size, end - first
    if count == 2:
        call(loop, a, out, n)
    elif count == 3:
        call(loop, a, b, out, n)
    else:
        call(loop, a, b, c + first * c_size, out, n)


@jit
def _fetch(address, size, first):
    """A block that begins with element `first`."""
    for i in range(0, _BLOCK * size, LINE_BYTES):
        prefetch(address + first * size + i)


@jit
def _piece(loop, count, a, b, c, out, a_size, b_size, c_size, size, first, end, where):
    """The same; from memory by blocks, while those after are fetched: the CPU alone waits between what it computes.

    A large output goes past the caches, which would fetch from memory what is then overwritten: each block of it is
    computed into a page that stays near.
    """
    if where == _NEAR:
        _block(loop, count, a, b, c, out, a_size, b_size, c_size, size, first, end)
        return
    page = page_on_stack()
    for start in range(first, end, _BLOCK):
        stop = min(end, start + _BLOCK)
        _fetch(a, a_size, start + _AHEAD)
        _fetch(b, b_size, start + _AHEAD)
        _fetch(c, c_size, start + _AHEAD)
        if where == _FETCHED:
            _fetch(out, size, start + _AHEAD)
        streams = where == _STREAMED and stop - start == _BLOCK
        to = page - start * size if streams else out
        _block(loop, count, a, b, c, to, a_size, b_size, c_size, size, start, stop)
        if streams:
            copy_past_caches(out + start * size, page, _BLOCK * size)
    if where == _STREAMED:
        fence()


@jit
def _start(n, part, parts):
    """Where the share of a part begins."""
    return min(n, (n // _CHUNK + parts) // parts * _CHUNK * part)


def _share(loop, count, a, b, c, out, a_size, b_size, c_size, size, n, parts, part):
    """A loop over `count` arrays at these addresses, of elements of these sizes (0: a scalar, or none), in parts."""
    head, where = min(n, -out % LINE_BYTES // size), _NEAR
    if n * size > PAST_CACHES and out not in (a, b, c):
        where = _STREAMED
    elif n * (a_size + b_size + c_size + size) > PAST_CACHES:
        where = _FETCHED
    _piece(loop, count, a, b, c, out, a_size, b_size, c_size, size, 0, head, _NEAR)
    work = loop, count, a, b, c, out, a_size, b_size, c_size, size, n, head, where
    in_parts(parts, parts, part, work, (parts,))


def _part(loop, count, a, b, c, out, a_size, b_size, c_size, size, n, head, where, part, parts):
    first, end = head + _start(n - head, part, parts), head + _start(n - head, part + 1, parts)
    _piece(loop, count, a, b, c, out, a_size, b_size, c_size, size, first, end, where)


@once
def _shares():
    """Both compiled; the first is told the second's address."""
    launch_workers()
    share = c_function(types.void(*[types.intp] * 13), _share)
    return share, c_function(types.void(*[types.intp] * 15), _part)


_DTYPES = [np.dtype("float32"), np.dtype("float64"), np.dtype("float16")]
_PARALLEL_ABOVE, _COUNT, _SHARE, _PART, _LOOPS = range(OWN, OWN + 40, 8)


def _table(parallel_above, count):
    return table_of(parallel_above, count, 0, 0, *[0] * len(_DTYPES))


@jit
def _work(table, args, count):
    """Do what is asked if all is as it should be; whether it was done, or there was an exception."""
    if count != read(table, _COUNT):
        return NO
    x, out = read(args, 0), read(args, 8 * (count - 1))
    if read(x, TYPE) != read(table, NDARRAY):
        return NO
    dtype, loops = read(x, DESCR), table + _LOOPS
    computed, size, half = dtype, 4, False
    if dtype == read(table, FLOAT32):
        loop = read(loops, 0)
    elif dtype == read(table, FLOAT64):
        loop, size = read(loops, 8), 8
    elif dtype == read(table, FLOAT16):
        loop, computed, half = read(loops, 16), read(table, FLOAT32), True
    else:
        return NO
    if loop == 0 or not is_plain(table, x, dtype):
        return NO
    n = 1
    for i in range(ndim(x)):
        n *= read(read(x, SHAPE), 8 * i)
    if not (is_plain(table, out, computed) and same_shape(x, out) and read(out, FLAGS) & WRITEABLE):
        return NO
    to, b, c, scalar = read(out, DATA), 0, 0, 0
    for i in range(count - 1):
        arg = read(args, 8 * i)
        if i > 0 and read(arg, TYPE) == read(table, FLOAT):
            data, scalar = arg + VALUE, i
        elif i > 0 and not (is_plain(table, arg, computed) and same_shape(x, arg)):
            return NO
        else:
            data = read(arg, DATA)
            if abs(data - to) < n * size and (data != to or half):  # overlap in part
                return NO
        b, c = data if i == 1 else b, data if i == 2 else c
    x = read(x, DATA)
    if n > read(table, _PARALLEL_ABOVE):
        parts, python = begin_work(table, True)
        if parts == 0:
            return ERROR
        x_size, b_size = 2 if half else size, 0 if count < 3 or scalar == 1 else size
        c_size = 0 if count < 4 or scalar == 2 else size
        share, part = read(table, _SHARE), read(table, _PART)
        call(share, loop, count, x, b, c, to, x_size, b_size, c_size, size, n, parts, part)
        end_work(True, python)
    elif count == 2:
        call(loop, x, to, n)
    elif count == 3:
        call(loop, x, b, to, n)
    else:
        call(loop, x, b, c, to, n)
    return YES


def _at_once(table, args, count):
    """What Python calls; see _objects.py."""
    table = read(table, DATA)
    return answer(table, _work(table, args, count))
