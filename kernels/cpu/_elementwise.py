"""Kernels of one loop over elements: compiled once a dtype, as C functions of addresses, and called without detours.

    @elementwise(parallel_above=50_000)
    def sigmoid_forward(x, out, n):
        in_vectors()
        for i in range(n):
            out[i] = sigmoid(widen(x[i]))

makes the kernel ``sigmoid_forward(x, out)`` of arrays of any shape. The first argument may be float16, which `widen`
reads as float32, in which all else then is. The output, the last, may be one of the inputs, or overlaps none.

Small arrays go past Numba's dispatcher: see _objects.py for ``kernel.at_once``.
"""

import functools
import inspect

import numpy as np
from llvmlite import ir
from numba import prange, types
from numba.extending import intrinsic, overload

from ._jit import c_function, jit, parallel_twin, run
from ._objects import (
    DATA,
    DESCR,
    FLAGS,
    FLOAT,
    FLOAT16,
    FLOAT32,
    FLOAT64,
    NDARRAY,
    OWN,
    SHAPE,
    TYPE,
    VALUE,
    WRITEABLE,
    boolean,
    is_plain,
    ndim,
    python_function,
    read,
    same_shape,
    table_of,
)
from ._simd import VECTORS
from ._tile import call


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
        table = table_of(parallel_above, len(names), *[0] * len(_DTYPES))
        loops = {}

        def compiled(dtype):
            if dtype not in loops:
                computed = types.float64 if dtype == np.float64 else types.float32
                elements = [types.float64 if name in scalars else computed for name in names]
                if dtype == np.float16:
                    elements[0] = types.uint16
                loops[dtype] = c_function(types.void(*map(types.CPointer, elements), types.intp), loop)
                table[_LOOPS // 8 + _DTYPES.index(dtype)] = loops[dtype].address
                kernel.at_once = kernel.at_once or python_function(_at_once, table)
            return loops[dtype].address

        @functools.wraps(loop)
        def kernel(*args):
            if kernel.at_once and kernel.at_once(*args):
                return
            loop = compiled(args[0].dtype)
            if kernel.at_once(*args):
                return
            first, *others = [a.ravel() if isinstance(a, np.ndarray) else np.array([a]) for a in args]
            if first.dtype == np.float16:
                first = first.view(np.uint16)
            serial, parallel = _SHARED[len(names)]
            if first.size > parallel_above:
                run(serial, parallel, loop, first, *others)
            else:
                serial(loop, first, *others, 1)

        kernel.__signature__ = inspect.Signature(
            [inspect.Parameter(name, inspect.Parameter.POSITIONAL_OR_KEYWORD) for name in names]
        )
        kernel.at_once = None
        return kernel

    return decorate


_CHUNK = 64  # elements: shares are multiples of it, so that threads do not write into the same piece of cache


@jit
def _start(n, part, parts):
    """Where the share of a part begins."""
    return min(n, (n // _CHUNK + parts) // parts * _CHUNK * part)


@jit
def _address(a, n, first):
    """Of element number `first` of an array of n; of a scalar's only element."""
    return np.intp(a.ctypes.data) + (first * a.itemsize if a.size == n else 0)


def _share_2(loop, x, out, parts):
    n = x.size
    for part in prange(parts):
        first, end = _start(n, part, parts), _start(n, part + 1, parts)
        call(loop, _address(x, n, first), _address(out, n, first), end - first)


def _share_3(loop, x, y, out, parts):
    n = x.size
    for part in prange(parts):
        first, end = _start(n, part, parts), _start(n, part + 1, parts)
        call(loop, _address(x, n, first), _address(y, n, first), _address(out, n, first), end - first)


def _share_4(loop, x, y, z, out, parts):
    n = x.size
    for part in prange(parts):
        first, end = _start(n, part, parts), _start(n, part + 1, parts)
        inputs = _address(x, n, first), _address(y, n, first), _address(z, n, first)
        call(loop, inputs[0], inputs[1], inputs[2], _address(out, n, first), end - first)


_SHARED = {n: (jit(f), parallel_twin(f)) for n, f in ((2, _share_2), (3, _share_3), (4, _share_4))}

# The table of `_at_once`: loops by dtype.
_DTYPES = [np.dtype("float32"), np.dtype("float64"), np.dtype("float16")]
_LIMIT_OF_SIZE, _COUNT, _LOOPS = range(OWN, OWN + 24, 8)


@jit
def _work(table, args, count):
    """Do what is asked if it is small and simple; whether it was done."""
    if count != read(table, _COUNT):
        return False
    x, out = read(args, 0), read(args, 8 * (count - 1))
    if read(x, TYPE) != read(table, NDARRAY):
        return False
    dtype, loops = read(x, DESCR), table + _LOOPS
    computed, size, half = dtype, 4, False
    if dtype == read(table, FLOAT32):
        loop = read(loops, 0)
    elif dtype == read(table, FLOAT64):
        loop, size = read(loops, 8), 8
    elif dtype == read(table, FLOAT16):
        loop, computed, half = read(loops, 16), read(table, FLOAT32), True
    else:
        return False
    if loop == 0 or not is_plain(table, x, dtype):
        return False
    n = 1
    for i in range(ndim(x)):
        n *= read(read(x, SHAPE), 8 * i)
    if n > read(table, _LIMIT_OF_SIZE):
        return False
    if not (is_plain(table, out, computed) and same_shape(x, out) and read(out, FLAGS) & WRITEABLE):
        return False
    to, middle, last = read(out, DATA), 0, 0
    for i in range(count - 1):
        arg = read(args, 8 * i)
        if i > 0 and read(arg, TYPE) == read(table, FLOAT):
            data = arg + VALUE
        elif i > 0 and not (is_plain(table, arg, computed) and same_shape(x, arg)):
            return False
        else:
            data = read(arg, DATA)
            if abs(data - to) < n * size and (data != to or half):  # overlap in part
                return False
        middle, last = (data, last) if i == 1 else (middle, data)
    x = read(x, DATA)
    if count == 2:
        call(loop, x, to, n)
    elif count == 3:
        call(loop, x, middle, to, n)
    else:
        call(loop, x, middle, last, to, n)
    return True


def _at_once(table, args, count):
    """What Python calls; see _objects.py."""
    table = read(table, DATA)
    return boolean(table, _work(table, args, count))
