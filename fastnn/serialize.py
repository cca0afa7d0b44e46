"""Named arrays in files: safetensors and .npz both ways, the book's .pkl weight files for reading only.

Nothing in a file is ever executed, sizes are checked before memory is taken for them, and an existing file is
replaced whole or not at all.

Sources: safetensors, https://github.com/huggingface/safetensors; .npy/.npz, `numpy.lib.format`.
"""

import math
import os
import stat
import zipfile
from collections.abc import Callable, Iterable, Mapping
from typing import Any, BinaryIO

import numpy as np

from ._atomic import atomic_write, target_of
from ._device import to_cpu, xp_of
from .errors import FileFormatError

__all__ = ["load_arrays", "load_into", "save_arrays"]

_Array = np.ndarray[Any, Any]
_Path = str | os.PathLike[str]

_DTYPES = ("float16", "float32", "float64")
_MAX_BYTES = 2**32


def save_arrays(path: _Path, arrays: Mapping[str, Any], dtype: str | None = "float16") -> None:
    """Write named arrays to a ``.safetensors`` or ``.npz`` file, whole or not at all.

    Parameters
    ----------
    path : str or path-like
        The extension chooses the format.
    arrays : mapping of str to array
        Any shape, memory order and byte order; float, int or bool.
    dtype : {"float16", "float32", "float64"} or None
        What floats are stored as; ints and bools keep their dtype. None keeps floats too. float16, as the book
        stores weights, keeps 11 significant bits and flushes magnitudes below 3e-8 to zero.

    Raises
    ------
    ValueError
        Unknown extension or dtype, ``.pkl`` (read only), or a finite value that `dtype` cannot hold. Like every
        error here: one line, before the old file is touched.
    TypeError
        A name that is not a str, or an array of objects, strings or complex numbers.
    OSError
        From the file system.

    Examples
    --------
    >>> import os, tempfile
    >>> path = os.path.join(tempfile.mkdtemp(), "affine.safetensors")
    >>> save_arrays(path, {"W": np.eye(2), "b": np.zeros(2)})
    >>> load_arrays(path)["W"]
    array([[1., 0.],
           [0., 1.]], dtype=float16)
    """
    extension = check_destination(path)
    if dtype is not None and dtype not in _DTYPES:
        raise ValueError(f"dtype must be one of {', '.join(_DTYPES)} or None, got {dtype!r}")
    ready = {_checked_name(name): _storable(name, a, dtype) for name, a in arrays.items()}
    with atomic_write(path) as f:
        if extension == ".npz":
            _write_npz(f, ready)
        else:
            import safetensors.numpy

            f.write(safetensors.numpy.save(ready))


def check_destination(path: _Path) -> str:
    """The extension of a path, checked to be one that `save_arrays` can write to."""
    extension = _extension(path)
    if extension == ".pkl":
        raise ValueError(f"{_show(path)}: .pkl files are only read; save to .safetensors or .npz")
    target_of(path)
    return extension


def load_arrays(path: _Path, *, max_bytes: int = _MAX_BYTES) -> dict[str, _Array]:
    """Read named arrays from a ``.safetensors``, ``.npz`` or ``.pkl`` file.

    Parameters
    ----------
    path : str or path-like
        The extension chooses the format. ``.pkl``: a pickled dict or list of arrays, such as the weight files of
        the book; read by a restricted reader that knows NumPy arrays and built-in containers and executes nothing.
    max_bytes : int
        Most bytes the file, and the arrays in it together, may take; 4 GiB unless told.

    Returns
    -------
    dict of str to ndarray
        Writable, C-contiguous, native byte order, dtypes as stored (widen float16 before computing with it). NaN
        and infinity come as they are. Arrays of a pickled list are named "0", "1", ...

    Raises
    ------
    FileFormatError
        The file is damaged, too big, of another format, or holds anything but float, int and bool arrays.
    ValueError
        Unknown extension.
    OSError
        The file is missing or unreadable.

    Examples
    --------
    >>> import os, tempfile
    >>> path = os.path.join(tempfile.mkdtemp(), "weights.npz")
    >>> np.savez(path, W=np.ones((2, 3)), b=np.zeros(3))
    >>> {name: a.shape for name, a in load_arrays(path).items()}
    {'W': (2, 3), 'b': (3,)}
    """
    read = _READERS[_extension(path)]
    with open(path, "rb", opener=_open_without_waiting) as f:
        info = os.fstat(f.fileno())
        if not stat.S_ISREG(info.st_mode):
            raise FileFormatError(f"{_show(path)}: expected a regular file, got a device or pipe")
        if info.st_size > max_bytes:
            raise FileFormatError(f"{_show(path)}: expected at most max_bytes={max_bytes} bytes, found {info.st_size}")
        try:
            return read(f, info.st_size, max_bytes)
        except Exception as error:  # parsers of hostile bytes raise anything: struct.error, zlib.error, KeyError, ...
            found = " ".join(str(error).split()) or type(error).__name__
            expected = f"not a readable {_extension(path)} file of arrays"
            raise FileFormatError(f"{_show(path)}: {expected}: {found[:300]}") from error


def load_into(params: Mapping[str, Any], path: _Path, *, max_bytes: int = _MAX_BYTES) -> None:
    """Copy the arrays of a file into the live arrays of `params`; either all of them or none.

    Parameters
    ----------
    params : mapping of str to array
        Written in place (``params[name][...] = value``), so that layers which share the arrays see the new values.
    path : str or path-like
        As for `load_arrays`. Names and shapes must be those of `params`; a file without names (a pickled list, or
        ``np.savez(path, *arrays)``) is taken in the order of `params`.
    max_bytes : int
        As for `load_arrays`.

    Raises
    ------
    ValueError
        The first name, shape, kind or value that does not fit; nothing has been written then.
    FileFormatError, OSError
        As from `load_arrays`.

    Examples
    --------
    >>> import os, tempfile
    >>> path = os.path.join(tempfile.mkdtemp(), "weights.npz")
    >>> save_arrays(path, {"b": np.arange(3.0)})
    >>> b = np.zeros(3, dtype="float32")
    >>> load_into({"b": b}, path)
    >>> b
    array([0., 1., 2.], dtype=float32)
    """
    loaded, names = load_arrays(path, max_bytes=max_bytes), list(params.keys())
    if set(loaded) != set(names):
        loaded = _by_position(loaded, names, path)
    ready = []
    for name in names:
        live, value = params[name], loaded[name]
        if live.shape != value.shape:
            raise ValueError(f"{_show(path)}: {name!r} must have shape {live.shape}, the file has {value.shape}")
        if not np.can_cast(value.dtype, live.dtype, "same_kind"):
            raise ValueError(f"{_show(path)}: {name!r} must be {live.dtype}, the file has {value.dtype}")
        if isinstance(live, np.ndarray) and not live.flags.writeable:
            raise ValueError(f"{_show(path)}: {name!r} must be writable, the array to load into is read-only")
        ready.append((live, _cast(f"{_show(path)}: {name!r}", value, live.dtype)))
    for live, value in ready:
        live[...] = xp_of(live).asarray(value)


def _by_position(loaded: dict[str, _Array], names: list[str], path: _Path) -> dict[str, _Array]:
    for numbered in ("{}", "arr_{}"):
        files = [numbered.format(i) for i in range(len(loaded))]
        if set(loaded) == set(files):
            if len(files) != len(names):
                raise ValueError(f"{_show(path)}: expected {len(names)} arrays, the file has {len(files)}")
            return {name: loaded[file] for name, file in zip(names, files, strict=True)}
    missing, extra = [n for n in names if n not in loaded], [n for n in loaded if n not in names]
    what = f"expected {missing[0]!r}" if missing else f"unexpected {extra[0]!r}"
    raise ValueError(f"{_show(path)}: {what}: parameters are {_some(names)}, the file has {_some(loaded)}")


def _some(names: Iterable[str]) -> str:
    listed = list(names)
    return ", ".join(map(repr, listed[:6])) + (f" and {len(listed) - 6} more" if len(listed) > 6 else "") or "none"


def _show(path: _Path) -> str:
    return repr(os.fspath(path))


def _extension(path: _Path) -> str:
    extension = os.path.splitext(os.fspath(path))[1].lower()
    if extension not in _READERS:
        raise ValueError(f"{_show(path)}: the name must end in .safetensors, .npz or (for loading) .pkl")
    return extension


def _open_without_waiting(path: str, flags: int) -> int:
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))  # a pipe without a writer would block for ever


# Writing


def _checked_name(name: Any) -> str:
    if not isinstance(name, str):
        raise TypeError(f"names of arrays must be str, got {name!r}")
    try:
        fits = len(name.encode()) <= 1000 and "\0" not in name and name != "__metadata__"  # reserved in safetensors
    except UnicodeEncodeError:  # a lone surrogate
        fits = False
    if not fits:
        raise ValueError(f"names of arrays must be up to 1000 bytes of UTF-8 text without NUL, got {name[:40]!r}")
    return name


def _storable(name: str, array: Any, dtype: str | None) -> _Array:
    """Native, C-contiguous (safetensors 0.8 writes the memory of a transposed array as if it were), in `dtype`."""
    a = to_cpu(array)
    if a.dtype.kind not in "fiub" or a.dtype.itemsize > 8:
        raise TypeError(f"parameter {name!r} must be an array of float, int or bool, got {a.dtype}")
    if dtype is None or a.dtype.kind != "f":
        return np.asarray(a, dtype=a.dtype.newbyteorder("="), order="C")
    return np.asarray(_cast(f"parameter {name!r}", a, np.dtype(dtype)), order="C")


def _cast(what: str, a: _Array, dtype: np.dtype[Any]) -> _Array:
    """`a` as `dtype`; a finite value that would become infinite or wrap around is a ValueError."""
    with np.errstate(all="ignore"):  # overflow is looked for below; float16 signalling NaNs warn on some CPUs
        out = a.astype(dtype)
    if dtype.kind == "f":
        lost = np.isfinite(a) & ~np.isfinite(out)
        wider = "; pass dtype='float32'" if dtype.itemsize == 2 else "; pass dtype='float64'"
    else:
        lost, wider = out != a, ""
    if lost.any():
        raise ValueError(f"{what} has {a[lost].flat[0]!s}, beyond the range of {dtype}{wider}")
    return out


def _write_npz(f: BinaryIO, arrays: Mapping[str, _Array]) -> None:
    # Not np.savez: it takes names as keyword arguments, so a parameter called "file" would not be saved.
    with zipfile.ZipFile(f, "w") as archive:
        for name, a in arrays.items():
            with archive.open(zipfile.ZipInfo(f"{name}.npy"), "w", force_zip64=True) as member:
                np.lib.format.write_array(member, a, allow_pickle=False)


# Reading: (open file, its size, limit) -> arrays


def _read_safetensors(f: BinaryIO, size: int, max_bytes: int) -> dict[str, _Array]:
    import safetensors.numpy

    try:  # it checks the lengths that the header claims against those that are there
        arrays = safetensors.numpy.load(f.read(size))
    except KeyError as error:  # from its table of dtypes
        raise ValueError(f"an array of dtype {error}, expected float, int or bool") from error
    for name, a in arrays.items():
        if a.dtype.kind not in "fiub":
            raise ValueError(f"{name!r} of dtype {a.dtype}, expected float, int or bool")
    return {name: np.array(a) for name, a in arrays.items()}


def _read_npz(f: BinaryIO, size: int, max_bytes: int) -> dict[str, _Array]:
    with zipfile.ZipFile(f) as archive:
        members = archive.infolist()
        total = sum(member.file_size for member in members)  # zipfile gives out no more than it declares here
        if total > max_bytes:
            raise ValueError(f"arrays of {total} bytes, more than max_bytes={max_bytes}")
        arrays = {}
        for member in members:
            name = member.filename.removesuffix(".npy")
            if name == member.filename or name in arrays:
                raise ValueError(f"the member {member.filename!r}, expected .npy files of different names")
            with archive.open(member) as stream:
                arrays[name] = _read_npy(stream, member.file_size)
    return arrays


def _read_npy(stream: Any, size: int) -> _Array:
    """One .npy member. Not np.load: it allocates what the header claims before it looks for the data."""
    version = np.lib.format.read_magic(stream)
    if version == (1, 0):
        shape, fortran, dtype = np.lib.format.read_array_header_1_0(stream)
    elif version == (2, 0):
        shape, fortran, dtype = np.lib.format.read_array_header_2_0(stream)
    else:
        raise ValueError(f"a .npy header of version {version}, expected (1, 0) or (2, 0)")
    if dtype.kind not in "fiub" or dtype.itemsize > 8:
        raise ValueError(f"an array of dtype {dtype}, expected float, int or bool")
    nbytes = math.prod(shape) * dtype.itemsize
    if nbytes != size - stream.tell():
        raise ValueError(f"an array of shape {shape} and {dtype} with {size - stream.tell()} bytes, not {nbytes}")
    raw = stream.read(nbytes)  # to the end of the member, where zipfile compares the checksum
    a: _Array = np.ndarray(shape, dtype, raw, order="F" if fortran else "C")
    return np.array(a, dtype=dtype.newbyteorder("="), order="C")


def _read_pickle(f: BinaryIO, size: int, max_bytes: int) -> dict[str, _Array]:
    from ._weight_pickle import read_pickled_arrays

    return read_pickled_arrays(f.read(size), max_bytes)


_READERS: dict[str, Callable[[BinaryIO, int, int], dict[str, _Array]]] = {
    ".safetensors": _read_safetensors,
    ".npz": _read_npz,
    ".pkl": _read_pickle,
}
