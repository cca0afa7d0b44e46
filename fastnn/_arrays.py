"""What stands between a user's arrays and the kernels: checks with one-line errors, conversion, reused outputs.

Kernels take contiguous, aligned, writeable float32 or float64 arrays of the machine's byte order, because each other
kind would be compiled anew. Whatever else a user gives is brought into that form: without a copy where only the leave
to write is missing, as with JAX's arrays, since kernels do not write into inputs; else by a copy. Anything that NumPy
can read is an array: by ``__array__`` (PyTorch, JAX, pandas), ``__dlpack__``, a buffer, or as nested sequences. What
lies in a GPU's memory becomes a CuPy array of that memory, and stays there: see _device.py.
"""

import math
import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from . import config, kernels
from ._device import Array, address, as_plain, in_gpu_memory, is_plain, on_gpu, to_gpu, xp_of

FLOAT16, FLOAT32, FLOAT64 = np.dtype("float16"), np.dtype("float32"), np.dtype("float64")
INTP = np.dtype("intp")


def kernels_for(x: Array, *others: Array) -> ModuleType:
    """The kernels that compute on these arrays; a TypeError where some are on the GPU and others are not."""
    for other in others:
        check_one_device(x, other)
    return kernels.get("cpu") if type(x) is np.ndarray else kernels.for_array(x)


def check_one_device(x: Array, other: Array) -> None:
    """Raise TypeError where one is on the GPU and the other is not."""
    if type(x) is not type(other) and on_gpu(x) != on_gpu(other):
        gpu, cpu = (x, other) if on_gpu(x) else (other, x)
        raise TypeError(
            f"fastnn: arrays must be on one device, got one of shape {gpu.shape} on the GPU and one of shape "
            f"{cpu.shape} that is not; fastnn.util.to_gpu and to_cpu move arrays, model.to a model"
        )


class _AtOnce(dict[str, Callable[..., Any]]):
    """The kernels that take small arrays as users have them, by name: see kernels/cpu/_objects.py.

    ``AT_ONCE["relu_forward"](x, out)`` is True where all was as it should be, and the work is done; that of a loss,
    given (x, t, dx), is its value. Otherwise they are False, and the usual way, with checks, conversions and errors,
    is to be gone. Not for ``config.GPU``.
    """

    def __missing__(self, name: str) -> Callable[..., Any]:
        at_once: Callable[..., Any] | None = getattr(kernels.get("cpu"), name).at_once
        if at_once is None:  # not compiled yet
            return lambda *args: False
        self[name] = at_once
        return at_once


AT_ONCE = _AtOnce()


def float_dtype(dtype: np.dtype[Any], who: str, name: str) -> np.dtype[Any]:
    """The dtype in which values of `dtype` are computed: itself, or what NumPy promotes it and float32 to."""
    if dtype.kind in "biuf" and dtype.itemsize <= 8:
        return np.result_type(dtype, FLOAT32)
    hint = "; convert it to float64" if dtype.kind == "f" else ""
    raise TypeError(f"{who}: {name} must hold real numbers of at most 64 bits, got dtype {dtype}{hint}")


def as_array(x: ArrayLike, who: str, name: str) -> Array:
    """`x` as a NumPy or CuPy array of any dtype but object; the memory is x's own wherever it can be read in place."""
    if on_gpu(x) or in_gpu_memory(x):
        return to_gpu(x)
    try:
        by_dlpack = not hasattr(x, "__array__") and hasattr(x, "__dlpack__")
        array = np.from_dlpack(x) if by_dlpack else np.asarray(x)  # type: ignore[arg-type]
    except ValueError:
        raise ValueError(f"{who}: {name} must be an array, got nested sequences of unequal lengths") from None
    except (TypeError, RuntimeError, BufferError) as error:  # what a framework says of its own array
        kind = type(x).__name__
        if getattr(x, "requires_grad", False):
            raise TypeError(f"{who}: {name} must not require a gradient, got such a {kind}; pass .detach()") from None
        reason = " ".join(str(error).split())
        raise TypeError(f"{who}: {name} must be an array that NumPy can read, got {kind}: {reason}") from None
    if array.dtype == object:
        raise TypeError(f"{who}: {name} must be an array of numbers, got {type(x).__name__} of Python objects")
    return to_gpu(array) if config.GPU else array


def as_real(x: ArrayLike, who: str, name: str = "x", halves: bool = False) -> Array:
    """`x` as an array of a dtype that kernels compute in, in any layout; itself where it is one. See `as_floats`."""
    if type(x) is np.ndarray and (x.dtype is FLOAT32 or x.dtype is FLOAT64) and not config.GPU:
        return x
    array = as_array(x, who, name)
    if array.dtype == FLOAT16 and type(array) is np.ndarray:
        return array if halves else _widened(array)
    return array.astype(float_dtype(array.dtype, who, name), copy=False)


def _widened(array: Array) -> Array:
    """float16 as float32, by a kernel that reads float16 and with this slope changes nothing. NumPy: 8 x as long."""
    wide = np.empty(array.shape, FLOAT32)
    kernels.get("cpu").leaky_relu_forward(_for_kernels(array), 1.0, wide)
    return wide


def as_floats(x: ArrayLike, who: str, name: str = "x", halves: bool = False) -> Array:
    """`x` in the form that kernels take; `x` itself where it has that form. Only to be read: it may be an alias of x.

    With `halves` for kernels that read float16 as well, and compute it in float32.
    """
    if type(x) is np.ndarray and (x.dtype is FLOAT32 or x.dtype is FLOAT64) and x.flags.carray and not config.GPU:
        return x
    return _for_kernels(as_real(x, who, name, halves))


class _Memory:
    """An array's memory, said to be writeable; an array made of it holds it, and it holds the array.

    Since it is no array itself, views of an array made of it hold that array, and not only the memory.
    """

    def __init__(self, array: Array) -> None:
        self.__array_interface__ = interface = array.__array_interface__
        interface["data"] = interface["data"][0], False
        self._owner = array


def _for_kernels(array: Array) -> Array:
    """`array` contiguous, aligned and writeable: itself, an alias of what is only not writeable, or a copy."""
    if type(array) is not np.ndarray:
        return as_plain(array)
    flags = array.flags
    if not (flags.c_contiguous and flags.aligned):
        return np.require(array, requirements=["C", "A", "W"])
    return array if flags.writeable else np.asarray(_Memory(array))


def as_output(out: Array | None, shape: tuple[int, ...], dtype: np.dtype[Any], who: str, *inputs: Array) -> Array:
    """`out`, checked to be where results may go, or a new array.

    Raises
    ------
    TypeError
        Where `out` is not an array.
    ValueError
        Where it has another shape or dtype, cannot be written as kernels do, or overlaps an input that it is not.
    """
    xp = xp_of(inputs[0])
    if out is None:
        return xp.empty(shape, dtype)
    if type(out) is not xp.ndarray:
        raise TypeError(f"{who}: out must be an array of shape {shape} and dtype {dtype}, got {type(out).__name__}")
    if out.shape != shape or out.dtype != dtype:
        raise ValueError(
            f"{who}: out must have shape {shape} and dtype {dtype}, got shape {out.shape} and dtype {out.dtype}"
        )
    if not (is_plain(out) and out.dtype.isnative):
        raise ValueError(f"{who}: out must be writeable, contiguous and aligned, got an array that is not")
    for x in inputs:
        same = x.dtype is out.dtype and address(x) == address(out)
        if not same and xp.may_share_memory(x, out):
            raise ValueError(f"{who}: out must be an input itself or not overlap it, got one that overlaps in part")
    return out


def as_batch(x: ArrayLike, who: str, name: str = "x", halves: bool = False) -> Array:
    """`x` in the form that kernels take, see `as_floats`, with at least one element."""
    array = as_floats(x, who, name, halves)
    check_not_empty(array, who, name)
    return array


def check_not_empty(array: Array, who: str, name: str = "x") -> None:
    """Raise ValueError for an array without elements."""
    if array.size == 0:
        raise ValueError(f"{who}: {name} must hold at least one sample, got an empty array of shape {array.shape}")


def as_scores(x: ArrayLike, who: str) -> Array:
    """`x` in the form that kernels take, with at least one score of a class along the last axis."""
    array = as_batch(x, who)
    if array.ndim == 0:
        raise ValueError(f"{who}: x must have scores along its last axis, got a scalar")
    return array


def as_targets(t: ArrayLike, x: Array, who: str) -> Array:
    """`t` in the form that kernels take, in x's dtype, checked to have x's shape."""
    array = as_floats(t, who, "t")
    if array.shape != x.shape:
        raise ValueError(f"{who}: t must have the shape {x.shape} of x, got {array.shape}")
    check_one_device(x, array)
    return array if array.dtype is x.dtype else array.astype(x.dtype)


def as_gradient(dout: ArrayLike, shape: tuple[int, ...], who: str) -> Array:
    """`dout` in the form that kernels take, checked to have the shape of the output it belongs to."""
    array = as_floats(dout, who, "dout")
    check_gradient(array, shape, who)
    return array


def check_gradient(dout: Array, shape: tuple[int, ...], who: str) -> None:
    """Raise ValueError for a gradient of another shape than the output's."""
    if dout.shape != shape:
        raise ValueError(f"{who}: dout must have the shape {shape} of forward's output, got {dout.shape}")


def as_labels(t: ArrayLike, x: Array, who: str) -> Array:
    """Labels for scores `x` (N, C): class indices (N,) as intp, or label rows (N, C) in x's dtype.

    Raises
    ------
    ValueError
        For another shape, indices outside [0, C), label rows with NaN or infinity.
    TypeError
        For class indices that are not integers.
    """
    labels = as_labels_unread(t, x, who)
    check_labels(labels, x.shape[-1], who)
    return labels


def as_labels_unread(t: ArrayLike, x: Array, who: str) -> Array:
    """What `as_labels` returns, without a look at the values, which takes small batches longer than their loss."""
    if type(t) is type(x) and t.dtype is INTP and t.ndim == 1 == x.ndim - 1 and len(t) == len(x) and is_plain(t):
        return t
    labels = as_array(t, who, "t")
    check_one_device(x, labels)
    lead, classes = x.shape[:-1], x.shape[-1]
    if labels.shape == x.shape and (x.ndim > 1 or labels.size > 1):
        rows = as_floats(labels, who, "t").reshape(-1, classes)
        return rows if rows.dtype == x.dtype else rows.astype(x.dtype)
    if labels.shape != lead and not (lead == () and labels.shape == (1,)):
        raise ValueError(
            f"{who}: t must be class indices of shape {lead} or labels of shape {x.shape}, got shape {labels.shape}"
        )
    if labels.dtype.kind not in "iu":
        raise TypeError(f"{who}: t must hold integers (class indices), got dtype {labels.dtype}")
    return _for_kernels(labels.astype(np.intp, copy=False)).reshape(-1)


def check_labels(labels: Array, classes: int, who: str) -> None:
    """Raise ValueError for indices outside [0, classes) and for label rows with NaN or infinity."""
    if labels.ndim == 2:
        if not xp_of(labels).isfinite(labels).all():
            raise ValueError(f"{who}: t must hold finite labels, got NaN or infinity")
        return
    # Seen as unsigned, a negative index is a huge one: one comparison for both bounds.
    if labels.size and labels.view(np.uintp).max() >= classes:
        bad = int(labels[labels.view(np.uintp) >= classes][0])
        raise ValueError(f"{who}: t must hold class indices in [0, {classes}), got {bad}")


def as_parameter(p: ArrayLike, who: str, name: str, ndim: int) -> Array:
    """A weight or bias: the user's own array where its dtype allows and it may be written (so that it can be shared).

    Else a copy.
    """
    array = as_array(p, who, name)
    if array.ndim != ndim or array.size == 0:
        raise ValueError(f"{who}: {name} must be a non-empty array with {ndim} axes, got shape {array.shape}")
    if array.dtype == FLOAT16 and type(array) is np.ndarray:
        return _widened(array)
    dtype = float_dtype(array.dtype, who, name)
    return array.astype(dtype, copy=False) if on_gpu(array) else np.require(array, dtype, ["W"])


def as_operands(x: Array, *params: Array) -> tuple[Array, ...]:
    """`x` and parameters in one dtype and in layouts that kernels take; themselves where they are so already."""
    dtype = x.dtype
    for p in params:
        check_one_device(x, p)
        if p.dtype is not dtype or not (is_plain(p) or is_transposed(p)):
            return in_one_dtype(x, *params)
    return (x, *params)


def in_one_dtype(*arrays: Array) -> tuple[Array, ...]:
    """The arrays in the widest of their dtypes, contiguous; themselves where they are so already."""
    dtype = np.result_type(*(a.dtype for a in arrays))
    return tuple(as_plain(a, dtype) for a in arrays)


def is_transposed(p: Array) -> bool:
    """Whether it is a matrix whose columns or rows are contiguous, as the CPU's products take them."""
    return isinstance(p, np.ndarray) and p.flags.behaved and p.itemsize in p.strides


_LARGE = 1 << 20  # bytes
_CACHE_LINE = 64  # bytes; malloc gives large pieces of memory at multiples of 16


def _empty(shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
    """``np.empty``; if large, it begins with a cache line, so that kernels can write whole ones past the caches."""
    elements = math.prod(shape)
    if elements * dtype.itemsize < _LARGE:
        return np.empty(shape, dtype)
    memory = np.empty(elements + _CACHE_LINE // dtype.itemsize, dtype)
    skipped = -address(memory) % _CACHE_LINE // dtype.itemsize
    return np.asarray(_Memory(memory[skipped : skipped + elements].reshape(shape)))


class Outputs:
    """Output arrays of one layer: each call's is recycled once nobody holds it any more, else left to its holders.

    Whether it is held, its reference count tells: views, consumers of its memory and variables all count. Two arrays
    are kept, since the next layer holds the last output until its own next forward.
    """

    __slots__ = ("_arrays",)

    def __init__(self) -> None:
        self._arrays: list[Array] = []

    def spare(self) -> Array | None:
        """An array that no one else holds, with undefined contents, of an earlier call's shape and dtype, if any."""
        for array in self._arrays:
            if sys.getrefcount(array) == _UNHELD:
                return array
        return None

    def empty_like(self, x: Array, shape: tuple[int, ...] | None = None, dtype: np.dtype[Any] | None = None) -> Array:
        """An array with undefined contents that no one else holds: like x, or of another shape or dtype."""
        kind, shape, dtype = type(x), x.shape if shape is None else shape, dtype or x.dtype
        for array in self._arrays:
            if (
                sys.getrefcount(array) == _UNHELD
                and array.shape == shape
                and array.dtype == dtype
                and type(array) is kind
            ):
                return array
        alike = [a for a in self._arrays if a.shape == shape and a.dtype == dtype and type(a) is kind]
        array = _empty(shape, dtype) if kind is np.ndarray else xp_of(x).empty(shape, dtype)
        self._arrays = [*alike[-1:], array]
        return array


def _count_unheld() -> int:
    """The reference count, seen in a loop like that of `Outputs.empty_like`, of an array that only the list holds."""
    for array in [np.empty(0)]:
        return sys.getrefcount(array)
    raise AssertionError


_UNHELD = _count_unheld()
