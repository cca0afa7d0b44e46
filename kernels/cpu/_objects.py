"""Python's and NumPy's objects as compiled code sees them: how a kernel is called without Numba's dispatcher.

A call by way of the dispatcher takes 0.3 µs, as long as the work on a thousand elements. So some kernels have a twin,
``kernel.at_once``, which Python calls as a C function: it looks at its arguments itself, and either does the work, for
arrays that are as they should be, or answers False, and nothing has happened. (None before the first call.)

It is made by `python_function` of a function (table, args, count): the address of a table of what it needs to know,
which begins with `OBJECTS`, the address of its arguments, and how many they are.
"""

import ctypes
import functools
import sys
import sysconfig

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from .._threads import get_num_threads
from ._ir import I64
from ._jit import c_function, jit, once
from ._memory import store

# What must be known of CPython's and NumPy's objects: where their fields lie, in bytes. They belong to the binary
# interfaces of both and have not moved in twenty years; `_layout_is_known` looks before they are relied upon.
TYPE, VALUE, DATA, NDIM, SHAPE, DESCR, FLAGS = 8, 16, 16, 24, 32, 56, 64
_LENGTH, _ITEMS = 16, 24  # of a list
CONTIGUOUS, BY_COLUMNS, ALIGNED, WRITEABLE = 0x1, 0x2, 0x100, 0x400
CONTIGUOUS_ALIGNED = CONTIGUOUS | ALIGNED
_COUNTED = sys.version_info < (3, 12)  # True and False have reference counts, too; later they are immortal

# With what every table begins: objects by their addresses, which differ from process to process.
_OBJECTS = [
    np.ndarray,
    list,
    float,
    True,
    False,
    np.dtype("float32"),
    np.dtype("float64"),
    np.dtype("float16"),
    np.dtype("intp"),
    get_num_threads,
]
NDARRAY, _LIST, FLOAT, TRUE, FALSE, FLOAT32, FLOAT64, FLOAT16, INTP, _GET_NUM_THREADS, _CALL, OWN = range(0, 96, 8)
_VECTORCALL = ctypes.cast(ctypes.pythonapi.PyObject_Vectorcall, ctypes.c_void_p).value


def table_of(*own):
    """A table of integers, to be read behind `OWN`."""
    return np.array([*map(id, _OBJECTS), _VECTORCALL, *own], np.int64)


@functools.cache
def _layout_is_known():
    def field(obj, offset, kind):
        return kind.from_address(id(obj) + offset).value

    if sys.implementation.name != "cpython" or sysconfig.get_config_var("Py_GIL_DISABLED") or sys.maxsize < 2**32:
        return False
    a, b = np.zeros((3, 5), "float32"), np.zeros((2, 3, 4), "float64")[:, ::2]
    b.flags.writeable = False
    pointer, number, items = ctypes.c_int64, ctypes.c_int32, [a, b]
    if field(items, _LENGTH, pointer) != 2:
        return False
    if (pointer * 2).from_address(field(items, _ITEMS, pointer))[:] != [*map(id, items)]:
        return False
    return field(0.7, VALUE, ctypes.c_double) == 0.7 and all(
        field(array, TYPE, pointer) == id(np.ndarray)
        and field(array, DATA, pointer) == array.ctypes.data
        and field(array, NDIM, number) == array.ndim
        and tuple((pointer * array.ndim).from_address(field(array, SHAPE, pointer))) == array.shape
        and field(array, DESCR, pointer) == id(array.dtype)
        and field(array, FLAGS, number) == array.flags.num
        for array in (a, b)
    )


@intrinsic
def read(typing_context, address, offset):
    """The 64-bit integer so many bytes behind an address."""

    def code(context, builder, signature, args):
        return builder.load(builder.inttoptr(builder.add(*args), I64.as_pointer()))

    return types.intp(types.intp, types.intp), code


@intrinsic
def api(typing_context, function, args):
    """Call a function of Python's by its address; all arguments and the result as integers."""
    count = len(args)

    def code(context, builder, signature, args):
        given = [builder.extract_value(args[1], i) for i in range(count)]
        pointer = builder.inttoptr(args[0], ir.FunctionType(I64, [I64] * count).as_pointer())
        return builder.call(pointer, given)

    return types.intp(types.intp, types.UniTuple(types.intp, count)), code


# A float as a new object, to be returned.
new_float = types.ExternalFunction("PyFloat_FromDouble", types.intp(types.float64))

# Let other Python threads run, which returns what is needed to go on; and go on.
leave_python = types.ExternalFunction("PyEval_SaveThread", types.intp())
enter_python = types.ExternalFunction("PyEval_RestoreThread", types.void(types.intp))
no_memory = types.ExternalFunction("PyErr_NoMemory", types.intp())  # raises; returns 0
to_integer = types.ExternalFunction("PyLong_AsSsize_t", types.intp(types.intp))
_forget = types.ExternalFunction("Py_DecRef", types.void(types.intp))
_attribute = types.ExternalFunction("PyObject_GetAttr", types.intp(types.intp, types.intp))
_forget_error = types.ExternalFunction("PyErr_Clear", types.void())

# The address of what Python keeps of the thread that calls, as `this_thread` returns it.
calling_thread = types.ExternalFunction("PyThreadState_Get", types.intp())


def this_thread():
    """To compare with `calling_thread`."""
    get = ctypes.pythonapi.PyThreadState_Get
    get.restype = ctypes.c_ssize_t
    return get()


@jit
def call_python(table, function, args, count):
    """Call a Python object with the arguments at an address; returns that of the result, 0 for an exception."""
    return api(read(table, _CALL), (function, args, count, 0))


@jit
def begin_work(table, is_large):
    """How many threads work may take, 0 for an exception; and what `end_work`, which must follow, needs to go on.

    Large work may take several, and lets other Python threads run meanwhile.
    """
    if not is_large:
        return 1, 0
    number = call_python(table, read(table, _GET_NUM_THREADS), 0, 0)
    if number == 0:
        return 0, 0
    threads = to_integer(number)
    _forget(number)
    return threads, leave_python()


@jit
def end_work(is_large, python):
    """After work that began with `begin_work`, unless that was an exception."""
    if is_large:
        enter_python(python)


@jit
def has_list(table, obj, name, first, last):
    """Whether an object's attribute is a list that begins and ends with these objects."""
    items = _attribute(obj, name)
    if items == 0:
        _forget_error()
        return False
    same = False
    if read(items, TYPE) == read(table, _LIST) and read(items, _LENGTH) > 0:
        at = read(items, _ITEMS)
        same = read(at, 0) == first and read(at, 8 * (read(items, _LENGTH) - 1)) == last
    _forget(items)
    return same


@jit
def ndim(array):
    return read(array, NDIM) & 0xFFFFFFFF


@jit
def is_plain(table, obj, dtype, flags=CONTIGUOUS_ALIGNED):
    """Whether an object is an array as kernels take it, of this dtype."""
    return read(obj, TYPE) == read(table, NDARRAY) and read(obj, DESCR) == dtype and read(obj, FLAGS) & flags == flags


@jit
def same_shape(a, b):
    if ndim(b) != ndim(a):
        return False
    same = True
    for i in range(ndim(a)):
        same &= read(read(a, SHAPE), 8 * i) == read(read(b, SHAPE), 8 * i)
    return same


NO, YES, ERROR = range(3)  # nothing has happened; it is done; there is a Python exception


@jit
def answer(table, done):
    """What to return to Python."""
    return 0 if done == ERROR else boolean(table, done == YES)


@jit
def boolean(table, value):
    """True or False as an object, to be returned."""
    answer = read(table, TRUE if value else FALSE)
    if _COUNTED:
        store(answer, 0, read(answer, 0) + 1)
    return answer


class _MethodDef(ctypes.Structure):
    """CPython's description of a C function."""

    _fields_ = (
        ("name", ctypes.c_char_p),
        ("function", ctypes.c_void_p),
        ("flags", ctypes.c_int),
        ("doc", ctypes.c_char_p),
    )


@once
def _method(function):
    compiled = c_function(types.intp(types.intp, types.intp, types.intp), function)
    return compiled, _MethodDef(b"at_once", compiled.address, 0x80, None)  # METH_FASTCALL


def _never(*args):
    return False


def python_function(function, table):
    """`function` as what Python calls: it gets `table`, an array, as self, and returns the address of an object."""
    if not _layout_is_known():
        return _never
    new = ctypes.pythonapi.PyCFunction_NewEx
    new.argtypes, new.restype = (ctypes.c_void_p, ctypes.py_object, ctypes.c_void_p), ctypes.py_object
    return new(ctypes.addressof(_method(function)[1]), table, None)
