"""Read a pickled dict or list of arrays (the book's weight files) without unpickling it.

`pickle.load` runs whatever the file names. Here `pickletools.genops` splits the file into opcodes and a small stack
machine understands those that arrays need. A name in the file is looked up in the table `_KNOWN` below and nowhere
else: nothing is imported, no attribute is read or set, and nothing is allocated until the sizes have been added up.
(A subclass of `pickle.Unpickler` would still let 10 bytes ask for a memo of 64 GB: LONG_BINPUT with a huge index.)

Source of the opcodes: `pickletools` in the standard library; of the array states: `ndarray.__reduce__` and
`__reduce_ex__` of NumPy 1 and 2, under the module names numpy.core and numpy._core.
"""

import math
import pickletools
import re
from collections.abc import Callable
from typing import Any

import numpy as np

_MAX_OPCODES = 100_000  # an array takes about 40; each may make an object of 60 bytes

_PUSH = {
    *("INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT"),
    *("STRING", "BINSTRING", "SHORT_BINSTRING", "UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8"),
    *("BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8"),
}
_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
_EMPTY: dict[str, Callable[[], Any]] = {"EMPTY_DICT": dict, "EMPTY_LIST": list, "EMPTY_TUPLE": tuple}
_TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}


class _Dtype:
    """numpy.dtype: made from a code such as 'f4', given its byte order by BUILD."""

    def __init__(self, code: str, align: bool = False, copy: bool = True):
        if not isinstance(code, str) or not re.fullmatch(r"[<>=|]?([fiu][1248]|b1)", code):
            raise ValueError(f"an array of dtype {code!r}, expected float, int or bool")
        self.value = np.dtype(code)

    def build(self, state: Any) -> None:
        order, parts = state[1], state[2:5]
        if order not in ("<", ">", "=", "|") or any(part is not None for part in parts):
            raise ValueError("a structured dtype, expected float, int or bool")
        self.value = self.value.newbyteorder(order)


class _Array:
    """numpy.ndarray or a NumPy scalar: what the file says of it; `materialize` makes the array."""

    shape: tuple[int, ...]

    def build(self, state: Any) -> None:
        _, shape, dtype, fortran, raw = state
        self.set(shape, dtype, "F" if fortran else "C", raw)

    def set(self, shape: Any, dtype: Any, order: str, raw: Any, axes: Any = None) -> "_Array":
        if not isinstance(dtype, _Dtype) or not isinstance(raw, bytes | bytearray | str):
            raise ValueError("an array of objects, expected float, int or bool")
        if not isinstance(shape, tuple) or not all(type(n) is int and n >= 0 for n in shape):
            raise ValueError(f"an array of shape {shape!r}")
        self.shape, self.dtype, self.order, self.raw, self.axes = shape, dtype.value, order, raw, axes
        if self.nbytes != len(raw):
            raise ValueError(f"an array of shape {shape} and {self.dtype} with {len(raw)} bytes, not {self.nbytes}")
        return self

    @property
    def nbytes(self) -> int:
        return math.prod(self.shape) * self.dtype.itemsize

    def materialize(self) -> np.ndarray[Any, Any]:
        raw = self.raw.encode("latin1") if isinstance(self.raw, str) else self.raw  # str: Python 2, or protocol < 3
        if self.order == "K":  # NumPy >= 2.3, protocol 5: stored in memory order, then transposed
            a = np.ndarray(self.shape, self.dtype, raw).transpose(self.axes)
        else:
            a = np.ndarray(self.shape, self.dtype, raw, order="F" if self.order == "F" else "C")
        return np.array(a, dtype=self.dtype.newbyteorder("="), order="C")


def _reconstruct(subtype: Any, shape: Any, typecode: Any) -> _Array:
    return _Array()  # empty until BUILD; a subclass of ndarray has failed before, as a name


def _scalar(dtype: Any, raw: Any) -> _Array:
    return _Array().set((), dtype, "C", raw)


def _frombuffer(raw: Any, dtype: Any, shape: Any, order: Any, axes: Any = None) -> _Array:
    return _Array().set(shape, dtype, order, raw, axes)


def _encode(text: Any, encoding: Any) -> Any:
    """bytes as protocols 0..2 write them; encoded in `materialize`, once the sizes are known."""
    if not isinstance(text, str) or encoding not in ("latin1", "latin-1"):
        raise ValueError(f"text encoded as {encoding!r}, expected latin1")
    return text


_KNOWN: dict[str, Callable[..., Any] | None] = {
    "numpy ndarray": None,  # only ever an argument of _reconstruct
    "numpy dtype": _Dtype,
    "_codecs encode": _encode,
    "builtins bytes": lambda: b"",
    "__builtin__ bytes": lambda: b"",
    "collections OrderedDict": lambda: {},
}
for _core in ("numpy.core", "numpy._core"):
    _KNOWN[f"{_core}.multiarray _reconstruct"] = _reconstruct
    _KNOWN[f"{_core}.multiarray scalar"] = _scalar
    _KNOWN[f"{_core}.numeric _frombuffer"] = _frombuffer


class _Global:
    """A name in the file. Not the thing itself: only an entry of `_KNOWN`."""

    def __init__(self, name: str):
        if name not in _KNOWN:
            raise ValueError(f"the name {name.replace(' ', '.', 1)!r}, expected nothing but NumPy arrays")
        self.name = name


def _kind(value: Any) -> str:
    return type(value).__name__.strip("_").lower()


def _expect(kind: type, value: Any) -> Any:
    if not isinstance(value, kind):
        raise ValueError(f"an opcode for {kind.__name__} applied to {_kind(value)}")
    return value


def _run(data: bytes) -> Any:
    """Interpret the opcodes; return the object at STOP, arrays in it still as `_Array`."""
    stack: list[Any] = []
    outer: list[list[Any]] = []  # stacks below each MARK
    memo: dict[int, Any] = {}

    def since_mark() -> list[Any]:
        nonlocal stack
        items, stack = stack, outer.pop()
        return items

    def put_items(target: dict[str, Any], items: list[Any]) -> None:
        for key, value in zip(items[::2], items[1::2], strict=True):
            target[_expect(str, key)] = value

    arg: Any
    for count, (op, arg, _) in enumerate(pickletools.genops(data)):
        name = op.name
        if count >= _MAX_OPCODES:
            raise ValueError(f"more than {_MAX_OPCODES} opcodes")
        if name in _PUSH:
            stack.append(arg)
        elif name in _CONSTANTS:
            stack.append(_CONSTANTS[name])
        elif name in _EMPTY:
            stack.append(_EMPTY[name]())
        elif name == "MARK":
            outer.append(stack)
            stack = []
        elif name in _TUPLES:
            n = _TUPLES[name]
            stack[-n:] = [tuple(stack[-n:])]
        elif name == "TUPLE":
            items = since_mark()
            stack.append(tuple(items))
        elif name == "LIST":
            items = since_mark()
            stack.append(items)
        elif name == "DICT":
            items = since_mark()
            stack.append({})
            put_items(stack[-1], items)
        elif name == "APPEND":
            item = stack.pop()
            _expect(list, stack[-1]).append(item)
        elif name == "APPENDS":
            items = since_mark()
            _expect(list, stack[-1]).extend(items)
        elif name == "SETITEM":
            value, key = stack.pop(), stack.pop()
            put_items(_expect(dict, stack[-1]), [key, value])
        elif name == "SETITEMS":
            items = since_mark()
            put_items(_expect(dict, stack[-1]), items)
        elif name in ("PUT", "BINPUT", "LONG_BINPUT"):
            memo[arg] = stack[-1]
        elif name == "MEMOIZE":
            memo[len(memo)] = stack[-1]
        elif name in ("GET", "BINGET", "LONG_BINGET"):
            stack.append(memo[arg])
        elif name == "GLOBAL":
            stack.append(_Global(arg))
        elif name == "STACK_GLOBAL":
            attribute, module = _expect(str, stack.pop()), _expect(str, stack.pop())
            stack.append(_Global(f"{module} {attribute}"))
        elif name == "REDUCE":
            args, function = _expect(tuple, stack.pop()), _KNOWN[_expect(_Global, stack.pop()).name]
            if function is None:
                raise ValueError("numpy.ndarray called, expected an array with its data")
            stack.append(function(*args))
        elif name == "BUILD":
            state = stack.pop()
            if not isinstance(stack[-1], _Array | _Dtype):
                raise ValueError(f"a state for {_kind(stack[-1])}, expected nothing but NumPy arrays")
            stack[-1].build(_expect(tuple, state))
        elif name not in ("PROTO", "FRAME", "STOP"):
            raise ValueError(f"the opcode {name}, expected nothing but NumPy arrays")
    return stack.pop()


def read_pickled_arrays(data: bytes, max_bytes: int) -> dict[str, np.ndarray[Any, Any]]:
    """Arrays in a pickle of ``{name: array}``, or of ``[array, ...]`` under the names "0", "1", ...

    Parameters
    ----------
    data : bytes
        The whole file, protocol 0 to 5, from Python 2 or 3.
    max_bytes : int
        Most bytes that the arrays may take together.

    Returns
    -------
    dict of str to ndarray
        C-contiguous, native byte order, dtypes as stored.

    Raises
    ------
    Exception
        Nearly any, for `data` that is not such a pickle; a ValueError where it names what it found.

    Examples
    --------
    >>> import pickle
    >>> read_pickled_arrays(pickle.dumps({"b": np.zeros(2)}), max_bytes=100)
    {'b': array([0., 0.])}
    """
    top = _run(data)
    if isinstance(top, list | tuple):
        top = {str(i): value for i, value in enumerate(top)}
    if not isinstance(top, dict):
        raise ValueError(f"{_kind(top)}, expected a dict or list of arrays")
    for name, value in top.items():
        if not isinstance(value, _Array):
            raise ValueError(f"{_kind(value)} under {name!r}, expected an array")
    total = sum(value.nbytes for value in top.values())  # one buffer may stand behind many arrays
    if total > max_bytes:
        raise ValueError(f"arrays of {total} bytes, more than max_bytes={max_bytes}")
    return {name: value.materialize() for name, value in top.items()}
