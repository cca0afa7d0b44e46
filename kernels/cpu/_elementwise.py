"""Kernels of one loop over elements: compiled once a dtype, as C functions of addresses, and called without detours.

    @elementwise(parallel_above=50_000)
    def sigmoid_forward(x, out, n):
        in_vectors()
        for i in range(n):
            out[i] = sigmoid(widen(x[i]))

makes the kernel ``sigmoid_forward(x, out)`` of arrays of any shape. The first argument may be float16, which `widen`
reads as float32, in which all else then is. The output, the last, may be one of the inputs, or overlaps none.

A call by way of Numba's dispatcher takes 0.3 µs, as long as the work on a thousand elements. So each kernel has a twin,
``kernel.at_once``, which Python calls as a C function: it looks at its arguments itself, and either does the work,
for small arrays that are as they should be, or answers False, and nothing has happened. (None before the first call.)
"""

import ctypes
import functools
import inspect
import sys
import sysconfig

import numpy as np
from llvmlite import ir
from numba import prange, types
from numba.extending import intrinsic, overload

from ._jit import c_function, jit, parallel_twin, run
from ._simd import VECTORS
from ._tile import call, store


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
        table = np.array([*map(id, _OBJECTS), parallel_above, len(names), *[0] * len(_DTYPES)], np.int64)
        loops = {}

        def compiled(dtype):
            if dtype not in loops:
                computed = types.float64 if dtype == np.float64 else types.float32
                elements = [types.float64 if name in scalars else computed for name in names]
                if dtype == np.float16:
                    elements[0] = types.uint16
                loops[dtype] = c_function(types.void(*map(types.CPointer, elements), types.intp), loop)
                table[_LOOPS // 8 + _DTYPES.index(dtype)] = loops[dtype].address
                kernel.at_once = kernel.at_once or _python_function(table)
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


def _never(*args):
    return False


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

# What `_at_once` must know of CPython's and NumPy's objects: where their fields lie, in bytes. They belong to the
# binary interfaces of both and have not moved in twenty years; `_layout_is_known` looks before they are relied upon.
_TYPE, _VALUE, _DATA, _NDIM, _SHAPE, _DESCR, _FLAGS = 8, 16, 16, 24, 32, 56, 64
_CONTIGUOUS_ALIGNED, _WRITEABLE = 0x101, 0x400
_DTYPES = [np.dtype("float32"), np.dtype("float64"), np.dtype("float16")]
# The table that is handed to it: objects by their addresses, which differ from process to process; loops by dtype.
_OBJECTS = [np.ndarray, float, True, False, *_DTYPES]
_NDARRAY, _FLOAT, _TRUE, _FALSE, _FLOAT32, _FLOAT64, _FLOAT16, _LIMIT_OF_SIZE, _COUNT, _LOOPS = range(0, 80, 8)
_COUNTED = sys.version_info < (3, 12)  # True and False have reference counts, too; later they are immortal


@functools.cache
def _layout_is_known():
    def field(obj, offset, kind):
        return kind.from_address(id(obj) + offset).value

    if sys.implementation.name != "cpython" or sysconfig.get_config_var("Py_GIL_DISABLED") or sys.maxsize < 2**32:
        return False
    a, b = np.zeros((3, 5), "float32"), np.zeros((2, 3, 4), "float64")[:, ::2]
    b.flags.writeable = False
    pointer, number = ctypes.c_int64, ctypes.c_int32
    return field(0.7, _VALUE, ctypes.c_double) == 0.7 and all(
        field(array, _TYPE, pointer) == id(np.ndarray)
        and field(array, _DATA, pointer) == array.ctypes.data
        and field(array, _NDIM, number) == array.ndim
        and tuple((pointer * array.ndim).from_address(field(array, _SHAPE, pointer))) == array.shape
        and field(array, _DESCR, pointer) == id(array.dtype)
        and field(array, _FLAGS, number) == array.flags.num
        for array in (a, b)
    )


@intrinsic
def _read(typing_context, address, offset):
    """The 64-bit integer so many bytes behind an address."""

    def code(context, builder, signature, args):
        return builder.load(builder.inttoptr(builder.add(*args), ir.IntType(64).as_pointer()))

    return types.intp(types.intp, types.intp), code


@jit
def _low(number):
    return number & 0xFFFFFFFF


@jit
def _is_plain(table, obj, dtype):
    """Whether an object is an array as kernels take it, of this dtype."""
    return (
        _read(obj, _TYPE) == _read(table, _NDARRAY)
        and _read(obj, _DESCR) == dtype
        and _read(obj, _FLAGS) & _CONTIGUOUS_ALIGNED == _CONTIGUOUS_ALIGNED
    )


@jit
def _same_shape(a, b):
    ndim = _low(_read(a, _NDIM))
    if _low(_read(b, _NDIM)) != ndim:
        return False
    same = True
    for i in range(ndim):
        same &= _read(_read(a, _SHAPE), 8 * i) == _read(_read(b, _SHAPE), 8 * i)
    return same


@jit
def _work(table, args, count):
    """Do what is asked if it is small and simple; whether it was done."""
    if count != _read(table, _COUNT):
        return False
    x, out = _read(args, 0), _read(args, 8 * (count - 1))
    if _read(x, _TYPE) != _read(table, _NDARRAY):
        return False
    dtype, loops = _read(x, _DESCR), table + _LOOPS
    computed, size, half = dtype, 4, False
    if dtype == _read(table, _FLOAT32):
        loop = _read(loops, 0)
    elif dtype == _read(table, _FLOAT64):
        loop, size = _read(loops, 8), 8
    elif dtype == _read(table, _FLOAT16):
        loop, computed, half = _read(loops, 16), _read(table, _FLOAT32), True
    else:
        return False
    if loop == 0 or not _is_plain(table, x, dtype):
        return False
    n = 1
    for i in range(_low(_read(x, _NDIM))):
        n *= _read(_read(x, _SHAPE), 8 * i)
    if n > _read(table, _LIMIT_OF_SIZE):
        return False
    if not (_is_plain(table, out, computed) and _same_shape(x, out) and _read(out, _FLAGS) & _WRITEABLE):
        return False
    to, middle, last = _read(out, _DATA), 0, 0
    for i in range(count - 1):
        arg = _read(args, 8 * i)
        if i > 0 and _read(arg, _TYPE) == _read(table, _FLOAT):
            data = arg + _VALUE
        elif i > 0 and not (_is_plain(table, arg, computed) and _same_shape(x, arg)):
            return False
        else:
            data = _read(arg, _DATA)
            if abs(data - to) < n * size and (data != to or half):  # overlap in part
                return False
        middle, last = (data, last) if i == 1 else (middle, data)
    x = _read(x, _DATA)
    if count == 2:
        call(loop, x, to, n)
    elif count == 3:
        call(loop, x, middle, to, n)
    else:
        call(loop, x, middle, last, to, n)
    return True


def _at_once(table, args, count):
    """What Python calls (METH_FASTCALL): `table`, an array, as self; the address of the arguments, and how many."""
    table = _read(table, _DATA)
    answer = _read(table, _TRUE if _work(table, args, count) else _FALSE)
    if _COUNTED:
        store(answer, 0, _read(answer, 0) + 1)
    return answer


class _MethodDef(ctypes.Structure):
    """CPython's description of a C function."""

    _fields_ = (
        ("name", ctypes.c_char_p),
        ("function", ctypes.c_void_p),
        ("flags", ctypes.c_int),
        ("doc", ctypes.c_char_p),
    )


@functools.cache
def _method():
    compiled = c_function(types.intp(types.intp, types.intp, types.intp), _at_once)
    return compiled, _MethodDef(b"at_once", compiled.address, 0x80, None)  # METH_FASTCALL


def _python_function(table):
    """`_at_once` with the table of one kernel."""
    if not _layout_is_known():
        return _never
    new = ctypes.pythonapi.PyCFunction_NewEx
    new.argtypes, new.restype = (ctypes.c_void_p, ctypes.py_object, ctypes.c_void_p), ctypes.py_object
    return new(ctypes.addressof(_method()[1]), table, None)
