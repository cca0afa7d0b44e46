"""MNIST: 60,000 + 10,000 handwritten digits of 28x28 pixels, with the loader of "Deep Learning from Scratch".

Y. LeCun, C. Cortes, C. J. C. Burges, The MNIST database of handwritten digits (CC BY-SA 3.0).
IDX format: 0, 0, type (8 = uint8), number of dimensions, each dimension as 4 bytes big-endian, then the data.
"""

import gzip
import hashlib
import math
import os
import sys
import zlib
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from .._atomic import atomic_write
from ..errors import FileFormatError
from ._common import Array, Split, prepare

_Path = str | os.PathLike[str]

MIRRORS = [
    "https://ossci-datasets.s3.amazonaws.com/mnist/",
    "https://storage.googleapis.com/cvdf-datasets/mnist/",
    "https://raw.githubusercontent.com/fgnt/mnist/master/",
]
# MD5 of the uncompressed content: mirrors pack it differently.
MD5 = {
    "train-images-idx3-ubyte": "6bbc9ace898e44ae57da46a324031adb",
    "train-labels-idx1-ubyte": "a25bea736e30d166cdddb491f175f624",
    "t10k-images-idx3-ubyte": "2646ac647ad5339dbf082846283269ea",
    "t10k-labels-idx1-ubyte": "27ae3e4e09519cfbb04c329615203637",
}
_MAX_BYTES = 2**30  # of images in one file: 20 times MNIST, enough for every EMNIST split
_MAX_DOWNLOAD = 2**26
_DEFLATE_RATIO = 1032  # the most that gzip can shrink anything
_ADVICE = "put the four MNIST files into a folder and pass it as data_dir or in FASTNN_DATA_DIR"


def load_mnist(
    normalize: bool = True, flatten: bool = True, one_hot_label: bool = False, data_dir: _Path | None = None
) -> tuple[Split, Split]:
    """Load MNIST, or a data set in its format such as Fashion-MNIST.

    Parameters
    ----------
    normalize : bool
        True: float32 in 0..1. False: uint8 in 0..255.
    flatten : bool
        True: (N, 784). False: (N, 1, 28, 28).
    one_hot_label : bool
        True: labels (N, 10) float32. False: (N,) uint8.
    data_dir : path-like, optional
        Folder of the four IDX files, or one with a subfolder ``mnist`` of them; raw or .gz, spelled
        ``train-images-idx3-ubyte`` or ``train-images.idx3-ubyte``. Else the environment variable FASTNN_DATA_DIR;
        else the per-user cache, into which missing files are downloaded (12 MB).

    Returns
    -------
    (x_train, t_train), (x_test, t_test)

    Raises
    ------
    FileNotFoundError
        `data_dir` or FASTNN_DATA_DIR lacks a file; it is never replaced by a download.
    FileFormatError
        A file there is not IDX of 28x28 images, or labels 0..9, as many as images. (Its content is not compared
        with MNIST's; that of downloaded and cached files is.)
    ConnectionError
        No mirror had the file.

    Examples
    --------
    >>> (x_train, t_train), (x_test, t_test) = load_mnist(data_dir="~/data/mnist")  # doctest: +SKIP
    >>> x_train.shape, t_train.shape                                                # doctest: +SKIP
    ((60000, 784), (60000,))
    """
    given = data_dir if data_dir is not None else os.environ.get("FASTNN_DATA_DIR") or None
    argument = "data_dir" if data_dir is not None else "FASTNN_DATA_DIR"
    splits = []
    for part in ("train", "t10k"):
        arrays, paths = [], []
        for name in (f"{part}-images-idx3-ubyte", f"{part}-labels-idx1-ubyte"):
            if given is None:
                array, path = _from_cache(name)
            else:
                path = _find(Path(given).expanduser(), name, argument)
                array = _read_idx(path, name)
            arrays.append(array)
            paths.append(path)
        images, labels = arrays
        if len(images) != len(labels):
            raise FileFormatError(
                f"'{paths[1]}': expected {len(images)} labels, as many as images in '{paths[0]}', found {len(labels)}"
            )
        splits.append(prepare(images, labels, 255, normalize=normalize, flatten=flatten, one_hot_label=one_hot_label))
    return splits[0], splits[1]


def cache_dir() -> Path:
    """Folder of downloaded files: ``$XDG_CACHE_HOME/fastnn/mnist``, or under the system's usual cache folder."""
    if os.environ.get("XDG_CACHE_HOME"):
        base = Path(os.environ["XDG_CACHE_HOME"])
    elif sys.platform == "win32" and os.environ.get("LOCALAPPDATA"):
        base = Path(os.environ["LOCALAPPDATA"])
    elif sys.platform == "darwin":
        base = Path("~/Library/Caches").expanduser()
    else:
        base = Path("~/.cache").expanduser()
    return base / "fastnn" / "mnist"


def _spellings(name: str) -> list[str]:
    dotted = name.replace("-idx", ".idx")
    return [name, name + ".gz", dotted, dotted + ".gz"]


def _find(folder: Path, name: str, argument: str) -> Path:
    if not folder.is_dir():
        raise FileNotFoundError(f"{argument}: expected a folder with MNIST files, got '{folder}'")
    paths = [where / spelling for where in (folder, folder / "mnist") for spelling in _spellings(name)]
    for path in paths:
        if path.is_file():
            return path
    for path in paths:
        if path.exists():
            raise FileFormatError(f"'{path}': expected the MNIST file of that name, found a directory or device")
    raise FileNotFoundError(f"{argument}: no {name}, raw or .gz, in '{folder}' or its subfolder mnist")


def _from_cache(name: str) -> tuple[Array, Path]:
    folder = cache_dir()
    for spelling in _spellings(name):
        path = folder / spelling
        if path.is_file():
            try:
                return _read_idx(path, name, MD5[name]), path
            except FileFormatError:
                continue  # damaged: as good as absent
    return _download(name, folder)


def _download(name: str, folder: Path) -> tuple[Array, Path]:
    path = folder / f"{name}.gz"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise PermissionError(f"load_mnist: cannot make the cache folder '{folder}': {error}; {_ADVICE}") from error
    failures = []
    for mirror in MIRRORS:
        try:
            with atomic_write(path) as f:
                _fetch(f"{mirror}{name}.gz", f)
                return _read_idx(Path(f.name), name, MD5[name], shown=f"{mirror}{name}.gz"), path
        except Exception as error:  # URLError, HTTPException, timeouts, FileFormatError: on to the next mirror
            failures.append(f"{mirror} ({' '.join(str(error).split()) or type(error).__name__})")
    raise ConnectionError(f"load_mnist: no mirror had {name}.gz: {', '.join(failures)}; {_ADVICE}")


def _fetch(url: str, f: BinaryIO) -> None:
    """Copy what is at `url` into `f`, with a progress bar."""
    import urllib.request

    from tqdm.auto import tqdm

    request = urllib.request.Request(url, headers={"User-Agent": "fastnn"})
    with urllib.request.urlopen(request, timeout=30) as response:
        length = response.headers.get("Content-Length") or ""
        total, received = int(length) if length.isdigit() else None, 0
        with tqdm(total=total, unit="B", unit_scale=True, desc=url.rpartition("/")[2]) as bar:
            while block := response.read(2**16):
                received += len(block)
                if received > _MAX_DOWNLOAD:
                    raise FileFormatError(f"'{url}': expected about 10 MB, found more than {_MAX_DOWNLOAD} bytes")
                f.write(block)
                bar.update(len(block))
    f.flush()


def _read_idx(path: Path, name: str, md5: str | None = None, shown: str | None = None) -> Array:
    """Read one IDX file, raw or gzip by its first bytes: images (N, 28, 28) or labels (N,), uint8."""
    shown = repr(shown or str(path))
    with path.open("rb") as f:
        size = os.fstat(f.fileno()).st_size
        zipped = f.read(2) == b"\x1f\x8b"
        f.seek(0)
        stream: Any = gzip.GzipFile(fileobj=f) if zipped else f
        try:
            return _parse_idx(stream, size, zipped, ndim=3 if "images" in name else 1, md5=md5)
        except FileFormatError as error:
            raise FileFormatError(f"{shown}: {error}") from None
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            raise FileFormatError(f"{shown}: expected a complete gzip file, found damage: {error}") from error


def _parse_idx(stream: Any, size: int, zipped: bool, ndim: int, md5: str | None) -> Array:
    what = "28x28 images" if ndim == 3 else "labels"
    magic, header_size = bytes([0, 0, 8, ndim]), 4 + 4 * ndim
    header = stream.read(header_size)
    if len(header) < header_size or header[:4] != magic:
        raise FileFormatError(f"expected an IDX file of {what}, starting {magic!r}, found {header[:16]!r}")
    shape = tuple(int.from_bytes(header[i : i + 4], "big") for i in range(4, header_size, 4))
    if shape[0] == 0 or (ndim == 3 and shape[1:] != (28, 28)):
        raise FileFormatError(f"expected one or more {what}, found the shape {shape}")
    declared = math.prod(shape)
    room = (size * _DEFLATE_RATIO if zipped else size) - header_size
    if declared > min(room, _MAX_BYTES):  # before memory is taken for it
        raise FileFormatError(f"expected room for the {declared} bytes its header declares, found a file of {size}")

    data = np.empty(declared, dtype=np.uint8)
    view, filled = data.data, 0
    while filled < declared and (n := stream.readinto(view[filled:])):
        filled += n
    more = stream.read(1)  # reaching the end also makes gzip compare its checksum
    if filled != declared or more:
        found = "more" if more else filled
        raise FileFormatError(f"expected {declared} bytes after the header, found {found}")
    if ndim == 1 and data.max() > 9:
        raise FileFormatError(f"expected labels 0..9, found {data.max()}")
    if md5 is not None:
        digest = hashlib.md5(header, usedforsecurity=False)
        digest.update(data.data)
        if digest.hexdigest() != md5:
            raise FileFormatError(f"expected content with MD5 {md5}, found {digest.hexdigest()}")
    return data.reshape(shape)
