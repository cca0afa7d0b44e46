"""A stand-in for CuPy where there is no GPU: what fastnn uses of it, on the CPU, and as strict as CuPy.

Tests put this folder on the import path (see tests/conftest.py), so that ``import cupy`` finds it. Arrays are no NumPy
arrays and do not become any by themselves; RawModule compiles CUDA C with g++ after ../cuda_on_cpu.h, and kernels check
their arguments. ``counts`` tells what would have waited for a GPU: copies between it and the host.

SIMULATOR_SANITIZE=address or thread: kernels are compiled with AddressSanitizer and UBSan, or with ThreadSanitizer,
whose library must have been loaded first (LD_PRELOAD). SIMULATOR_DROP=name:3 takes barrier 3 from the source whose
first kernel has that name (see ../barriers.py). SIMULATOR_CACHE: a folder for what was compiled.
"""

# ruff: noqa: SIM905 (lists of names read well as words)
import ctypes
import hashlib
import math
import operator
import os
import re
import subprocess
import sys
import tempfile
import types
import weakref
from pathlib import Path

import cupy_streams as streams  # beside this file
import numpy as np
from cupy_streams import counts

float16, float32, float64 = np.float16, np.float32, np.float64
int8, int16, int32, int64, intp = np.int8, np.int16, np.int32, np.int64, np.intp
uint8, uint16, uint32, uint64, bool_ = np.uint8, np.uint16, np.uint32, np.uint64, np.bool_
dtype, newaxis, inf, nan, pi = np.dtype, np.newaxis, np.inf, np.nan, np.pi

_CUDA = 2  # DLPack's number of that kind of device


def _allocate(shape, dtype, order="C"):
    """An array's values, and their memory."""
    dtype = np.dtype(dtype)
    if dtype.kind not in "biufc":
        raise ValueError(f"Unsupported dtype {dtype}")  # as CuPy
    shape = tuple(map(operator.index, shape)) if isinstance(shape, tuple | list) else (operator.index(shape),)
    memory = streams.allocate(math.prod(shape) * dtype.itemsize)
    return (memory.bytes().view(dtype) if memory.size else np.empty(0, dtype)).reshape(shape, order=order), memory


def _values(a):
    """The operand of an operation on the device, which takes arrays of the device and scalars."""
    if isinstance(a, ndarray):
        return a._values
    if isinstance(a, np.ndarray):
        raise TypeError(f"Unsupported type {type(a)}")  # as CuPy
    return type(a)(map(_values, a)) if isinstance(a, list | tuple) else a


def _arrays(*operands):
    for a in operands:
        if isinstance(a, list | tuple):
            yield from _arrays(*a)
        elif isinstance(a, ndarray):
            yield a


def _view(values, memory):
    a = ndarray.__new__(ndarray)
    a._values, a._memory = values, memory
    return a


def _computed(compute, out, *operands):
    """What compute() gives, by the current stream: in `out`, as a new array, or as a view of an operand."""
    arrays = list(_arrays(*operands))
    if out is None:
        with np.errstate() if streams.at_once() else np.errstate(all="ignore"):  # then it is for the shape and dtype
            values = np.asarray(compute())
        for a in arrays:
            if np.may_share_memory(values, a._values):
                return _view(values, a._memory)
        flags = values.flags
        out = ndarray(values.shape, values.dtype, "F" if flags.f_contiguous and not flags.c_contiguous else "C")
        if streams.at_once():
            out._values[...] = values
            return out
    into = out._values

    def write():
        into[...] = compute()

    streams.do(write, *(a._memory for a in (out, *arrays)))
    return out


class ndarray:
    __array_ufunc__ = None  # NumPy's operators refuse it
    __hash__ = None

    def __init__(self, shape, dtype=float, order="C"):
        self._values, self._memory = _allocate(shape, dtype, order)

    def __array__(self, *args, **kwargs):
        raise TypeError(
            "Implicit conversion to a NumPy array is not allowed. Please use `.get()` to construct a NumPy array "
            "explicitly."
        )

    shape = property(lambda self: self._values.shape)
    dtype = property(lambda self: self._values.dtype)
    ndim = property(lambda self: self._values.ndim)
    size = property(lambda self: self._values.size)
    nbytes = property(lambda self: self._values.nbytes)
    itemsize = property(lambda self: self._values.itemsize)
    strides = property(lambda self: self._values.strides)
    flags = property(lambda self: self._values.flags)
    T = property(lambda self: _view(self._values.T, self._memory))
    base = property(lambda self: None if self._values.base is None else self)
    data = property(lambda self: types.SimpleNamespace(ptr=self._values.ctypes.data))
    device = property(lambda self: cuda.Device())

    @property
    def __cuda_array_interface__(self):
        interface = self._values.__array_interface__
        return {**{name: interface[name] for name in ("shape", "typestr", "data", "strides")}, "version": 3}

    def __dlpack_device__(self):
        return _CUDA, 0

    def __dlpack__(self, *, stream=None, **options):
        return self._values.__dlpack__()

    def get(self, out=None):
        streams.host_waits()
        values = self._values.copy()
        if out is None:
            return values
        out[...] = values
        return out

    def item(self):
        return self.get().item()

    def __float__(self):
        return float(self.get())

    def __int__(self):
        return int(self.get())

    def __index__(self):
        return operator.index(self.get())

    def __bool__(self):
        return bool(self.get())

    def __repr__(self):
        return repr(self.get())

    __str__ = __repr__

    def __len__(self):
        return len(self._values)

    def __getitem__(self, key):
        values, key_values = self._values, _values(key)
        return _computed(lambda: values[key_values], None, self, key)

    def __setitem__(self, key, value):
        values, key_values, new = self._values, _values(key), _values(value)
        streams.do(lambda: values.__setitem__(key_values, new), *(a._memory for a in _arrays(self, key, value)))

    def set(self, values):
        if not isinstance(values, np.ndarray) or values.dtype != self.dtype or values.shape != self.shape:
            raise ValueError(f"expected a NumPy array {self.dtype} {self.shape}")
        self._from_host(values)

    def _from_host(self, values):
        streams.forbid("a copy to the device")
        counts["to_device"] += 1
        into, values = self._values, values.copy()
        streams.do(lambda: into.__setitem__(..., values), self._memory)

    def fill(self, value):
        values, value = self._values, _values(value)
        streams.do(lambda: values.fill(value), self._memory)


def _method(name):
    def method(self, *args, out=None, **kwargs):
        values, args_values = self._values, _values(args)
        return _computed(lambda: getattr(values, name)(*args_values, **kwargs), out, self, *args)

    return method


def _in_place(name):
    def in_place(self, other):
        values, other_values = self._values, _values(other)
        streams.do(lambda: getattr(values, f"__i{name}__")(other_values), *(a._memory for a in _arrays(self, other)))
        return self

    return in_place


for _name in ("repeat", "reshape", "transpose", "ravel", "view", "squeeze", "swapaxes", "astype", "copy", "flatten"):
    setattr(ndarray, _name, _method(_name))
for _name in ("sum", "mean", "max", "min", "all", "any", "argmax", "argmin", "dot", "clip", "take"):
    setattr(ndarray, _name, _method(_name))
for _name in "add sub mul truediv floordiv mod pow matmul and or xor lshift rshift".split():
    setattr(ndarray, f"__{_name}__", _method(f"__{_name}__"))
    setattr(ndarray, f"__r{_name}__", _method(f"__r{_name}__"))
for _name in "lt le gt ge eq ne neg abs invert".split():
    setattr(ndarray, f"__{_name}__", _method(f"__{_name}__"))
for _name in "add sub mul truediv floordiv pow and or xor".split():
    setattr(ndarray, f"__i{_name}__", _in_place(_name))


def _function(name):
    def function(*args, out=None, **kwargs):
        args_values = _values(args)
        return _computed(lambda: getattr(np, name)(*args_values, **kwargs), out, *args)

    return function


for _name in (
    "abs arange sqrt exp log log1p tanh maximum minimum add subtract multiply divide square sum mean where concatenate "
    "stack argmax max min all any isfinite isnan matmul dot zeros_like ones_like clip transpose broadcast_to"
).split():
    globals()[_name] = _function(_name)


def empty(shape, dtype=float, order="C"):
    return ndarray(shape, dtype, order)


def empty_like(a, dtype=None, shape=None):
    return ndarray(a.shape if shape is None else shape, a.dtype if dtype is None else dtype)


def full(shape, fill_value, dtype=None):
    a = ndarray(shape, np.result_type(fill_value) if dtype is None else dtype)
    a.fill(fill_value)
    return a


def full_like(a, fill_value, dtype=None):
    return full(a.shape, fill_value, a.dtype if dtype is None else dtype)


def zeros(shape, dtype=float):
    return full(shape, 0, dtype)


def ones(shape, dtype=float):
    return full(shape, 1, dtype)


def array(a, dtype=None, copy=True, order="K"):
    if isinstance(a, ndarray):
        same = a.dtype == (a.dtype if dtype is None else np.dtype(dtype))
        if same and not copy and (order != "C" or a.flags.c_contiguous):
            return a
        values = a._values
    elif interface := getattr(a, "__cuda_array_interface__", None):  # in this memory already
        return _view(np.asarray(types.SimpleNamespace(__array_interface__=interface)), _Foreign(a))
    else:
        values = np.asarray(a)
    as_fortran = order in "KA" and values.flags.f_contiguous and not values.flags.c_contiguous
    new = ndarray(values.shape, values.dtype if dtype is None else dtype, "F" if as_fortran or order == "F" else "C")
    if isinstance(a, ndarray):
        new[...] = a
    else:
        new._from_host(values)
    return new


def from_dlpack(a):
    if a.__dlpack_device__()[0] != _CUDA:
        raise ValueError("from_dlpack: the array must be on the GPU")
    capsule = a.__dlpack__(stream=streams.current().ptr)
    on_host = types.SimpleNamespace(__dlpack__=lambda **options: capsule, __dlpack_device__=lambda: (1, 0))
    return _view(np.from_dlpack(on_host), _Foreign(a))


class _Foreign:
    """Another library's array, as memory."""

    def __init__(self, array):
        self.array, self.owner = array, weakref.ref(self)


def asarray(a, dtype=None, order="K"):
    return array(a, dtype, copy=False, order=order)


def ascontiguousarray(a, dtype=None):
    return array(a, dtype, copy=False, order="C")


def asnumpy(a):
    return a.get() if isinstance(a, ndarray) else np.asarray(a)


def get_array_module(*arrays):
    return sys.modules[__name__] if ndarray in map(type, arrays) else np


def may_share_memory(a, b):
    return np.may_share_memory(a._values, b._values)


def _as_strided(a, shape, strides):
    return _view(np.lib.stride_tricks.as_strided(a._values, shape, strides), a._memory)


lib = types.SimpleNamespace(stride_tricks=types.SimpleNamespace(as_strided=_as_strided))


# ---- kernels --------------------------------------------------------------------------------------------------------


loaded = []  # sources, by their first kernels


class RawModule:
    """CUDA C, compiled by g++ when a function is first asked for."""

    def __init__(self, *, code, options=(), enable_cooperative_groups=False):
        self._code, self._options, self._cooperative = code, options, enable_cooperative_groups
        self._library = None

    def get_function(self, name):
        if self._library is None:
            streams.forbid("compiling")
            self._library = ctypes.CDLL(str(_compiled(self._code, self._options)))
            loaded.append(KERNEL.search(self._code)[1])
        return _Kernel(self._library, name, self._cooperative)


class _Kernel:
    def __init__(self, library, name, cooperative):
        self._launch, self._cooperative, self.name = getattr(library, f"launch_{name}"), cooperative, name
        self._launch.restype = ctypes.c_char_p
        types_of = getattr(library, f"types_of_{name}")
        types_of.restype = ctypes.c_char_p
        self._types = types_of().decode().split()

    def __call__(self, grid, block, args, *, shared_mem=0):
        counts["launches"] += 1
        if len(args) != len(self._types):
            raise TypeError(f"{self.name}: takes {len(self._types)} arguments, got {len(args)}")
        values = [self._argument(i, a, kind) for i, (a, kind) in enumerate(zip(args, self._types, strict=True))]
        addresses = (ctypes.c_void_p * len(values))(*[ctypes.addressof(v) for v in values])
        sizes = [(ctypes.c_uint * 3)(*(tuple(map(operator.index, size)) + (1, 1))[:3]) for size in (grid, block)]

        def run(values=values):  # addresses are of these
            error = self._launch(*sizes, ctypes.c_size_t(shared_mem), addresses, ctypes.c_int(self._cooperative))
            if error:
                raise RuntimeError(f"{self.name}: {error.decode()}")

        streams.do(run, *(a._memory for a in _arrays(*args)))

    def _argument(self, i, value, kind):
        """As CuPy passes it: an array by its address, Python's int as 64 bits, its float as a double."""
        if isinstance(value, ndarray):
            given = f"{value.dtype.kind}{value.itemsize}*"
            fits = kind == given or (given == "f2*" and kind == "V2*") or (given[0] == "b" and kind == "u1*")
            result = ctypes.c_void_p(value._values.ctypes.data)
        elif isinstance(value, bool | np.bool_):
            given, result = "u1", ctypes.c_bool(value)
            fits = kind == given
        elif isinstance(value, int | float):
            given = "i8" if isinstance(value, int) else "f8"
            result = (ctypes.c_int64 if isinstance(value, int) else ctypes.c_double)(value)
            fits = kind == given or (kind.endswith("*") and value == 0 and given == "i8")
        elif isinstance(value, np.generic):
            given, fits = value.dtype.str[1:], value.dtype.str[1:] == kind
            result = (ctypes.c_byte * value.nbytes)(*value.tobytes())
        else:
            given, fits = type(value).__name__, False
        if not fits:
            raise TypeError(f"{self.name}: argument {i} must be {kind}, got {given}")
        return result


_FLAGS = "-std=c++17 -g1 -fPIC -shared -fvisibility=hidden -ffp-contract=off -fno-strict-aliasing -U_FORTIFY_SOURCE"
_FLAGS += " -Wall -Werror -Wno-unknown-pragmas -Wno-unused-function -Wno-unused-variable -Wno-sign-compare"
_SANITIZERS = {
    "": "-O1",
    "address": "-O1 -fsanitize=address,undefined -fno-sanitize-recover=all -fno-sanitize=vptr",
    "thread": "-O1 -fsanitize=thread",
}
KERNEL = re.compile(r'extern "C" __global__ void (?:__launch_bounds__\([^)]*\)\s+)?(\w+)\(')
BARRIER = re.compile(r"^(?!\s*//)\s*(?:__syncthreads|__syncwarp|grid\.sync)\(\);", re.MULTILINE)
_ENTRIES = """
extern "C" __attribute__((visibility("default"))) const char *launch_{0}(
    const unsigned *grid, const unsigned *block, size_t shared, void **arguments, int cooperative) {{
    return simulator::launch({0}, grid, block, shared, arguments, cooperative);
}}
extern "C" __attribute__((visibility("default"))) const char *types_of_{0}() {{ return simulator::types_of({0}); }}
"""


def _compiled(code, options):
    """The library of a source: from the cache, else made."""
    header = (Path(__file__).parent.parent / "cuda_on_cpu.h").resolve()
    flags = [*_FLAGS.split(), *_SANITIZERS[os.environ.get("SIMULATOR_SANITIZE", "")].split()]
    flags += [option for option in options if option != "--fmad=false"]  # as it is here
    names = KERNEL.findall(code)
    dropped_from, _, dropped = os.environ.get("SIMULATOR_DROP", "").partition(":")
    if dropped_from == names[0]:
        begin, end = list(BARRIER.finditer(code))[int(dropped)].span()
        code = code[:begin] + ";" + code[end:]
    code = re.sub(r"extern __shared__ (\w+) (\w+)\[\];", r"\1 *\2 = (\1 *)dynamic_shared_memory;", code)
    code = f'#include "{header}"\n#line 1 "kernels.cu"\n{code}{"".join(_ENTRIES.format(name) for name in names)}'
    key = hashlib.sha256(repr((code, header.read_text(), flags)).encode()).hexdigest()[:24]
    default = Path(tempfile.gettempdir()) / f"fastnn-cuda-on-cpu-{os.getuid()}"
    folder = Path(os.environ.get("SIMULATOR_CACHE") or default)
    library = folder / f"{key}.so"
    if not library.exists():
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        made = folder / f"{key}.{os.getpid()}"
        done = subprocess.run(["g++", *flags, "-x", "c++", "-", "-o", made], input=code, text=True, capture_output=True)
        if done.returncode:
            raise RuntimeError(done.stderr[:4000])
        made.replace(library)
    return library


class _Device:
    id = 0
    compute_capability = "90"
    attributes = types.MappingProxyType({"MultiProcessorCount": 4})

    def __init__(self, device=None):
        pass

    def synchronize(self):
        streams.synchronize_all()

    def __enter__(self):
        return self

    def __exit__(self, *error):
        pass


cuda = types.SimpleNamespace(
    is_available=lambda: True,
    Device=_Device,
    Event=streams.Event,
    Graph=streams.Graph,
    MemoryPool=streams.MemoryPool,
    Stream=streams.Stream,
    get_current_stream=streams.current,
    using_allocator=streams.using_allocator,
)
