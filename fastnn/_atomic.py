"""Write a file so that its readers see the old content or the new, never half of it."""

import contextlib
import os
import secrets
import shutil
from collections.abc import Iterator
from typing import BinaryIO


@contextlib.contextmanager
def atomic_write(path: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    """Open a temporary file in the folder of `path`; on success it is synced and renamed to `path`.

    If the body raises, the temporary file is removed and whatever was at `path` is untouched. After a kill or a
    power cut the old file is still there, beside at most a stray ``.fastnn-*.tmp``.

    Raises
    ------
    FileNotFoundError, IsADirectoryError, PermissionError, ValueError
        When `path` cannot become a file; before anything is written.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> target = pathlib.Path(tempfile.mkdtemp(), "notes.txt")
    >>> with atomic_write(target) as f:
    ...     _ = f.write(b"all or nothing")
    >>> target.read_text()
    'all or nothing'
    """
    target = target_of(path)
    folder = os.path.dirname(target)
    temporary = os.path.join(folder, f".fastnn-{secrets.token_hex(6)}.tmp")
    try:
        with open(temporary, "xb") as f:
            yield f
            f.flush()
            os.fsync(f.fileno())
        if os.path.exists(target):
            shutil.copymode(target, temporary)
        os.replace(temporary, target)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise
    _sync_folder(folder)


def target_of(path: str | os.PathLike[str]) -> str:
    """What `path` names, checked to be what can become a file."""
    target = os.path.realpath(path)  # through a symbolic link, so that the link stays one
    shown, folder = repr(os.fspath(path)), os.path.dirname(target)
    if not os.path.isdir(folder):
        raise FileNotFoundError(f"{shown}: the folder {folder!r} does not exist")
    if os.path.isdir(target):
        raise IsADirectoryError(f"{shown}: expected a file name, got a directory")
    if os.path.exists(target):
        if not os.path.isfile(target):
            raise ValueError(f"{shown}: expected a regular file, got a device or pipe")
        if not os.access(target, os.W_OK):  # a rename would go through: only the folder's rights count for it
            raise PermissionError(f"{shown}: the file is read-only")
    return target


def _sync_folder(folder: str) -> None:
    """Make the rename itself survive a power cut, where the system can (Windows cannot open a folder)."""
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
