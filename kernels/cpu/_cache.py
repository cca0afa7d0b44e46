"""Where compiled kernels are kept between processes, and when they are stale.

Numba's own cache looks only at the file that holds a function, but kernels call functions of other files; and it lies
beside the source, or fails. Ours lies in one private folder per user, named by a hash of *all* kernel sources, and can
only fail into compiling again: a cache file is code (a pickle), so a shared or foreign folder is never read.
"""

import functools
import hashlib
import os
import sys
import warnings
from pathlib import Path

from numba.core.caching import Cache, CompileResultCacheImpl, _CacheLocator


@functools.cache
def sources_hash():
    """Hash of every Python source of the kernels package, but of those for GPUs."""
    root = Path(__file__).resolve().parent.parent
    digest = hashlib.sha256()
    for source in sorted(set(root.rglob("*.py")) - set(root.glob("cuda/*"))):
        digest.update(str(source.relative_to(root)).encode())
        digest.update(source.read_bytes())
    return digest.hexdigest()[:16]


def cache_root():
    """``$FASTNN_CACHE_DIR``, else the folder for caches that the operating system gives each user, + ``fastnn``."""
    if chosen := os.environ.get("FASTNN_CACHE_DIR"):
        return Path(chosen)
    if sys.platform == "win32":
        base = os.environ.get("LOCALAPPDATA", "~/AppData/Local")
    elif sys.platform == "darwin":
        base = "~/Library/Caches"
    else:
        base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(base).expanduser() / "fastnn"


@functools.cache
def cache_dir():
    """The folder of this version's compiled kernels, made if need be; None, with a warning, where none can be had."""
    folder = cache_root() / f"kernels-{sources_hash()}"
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if hasattr(os, "getuid") and folder.stat().st_uid != os.getuid():
            raise PermissionError(f"{folder} belongs to another user")
        probe = folder / f".probe-{os.getpid()}"
        probe.touch()
        probe.unlink()
    except (OSError, RuntimeError) as error:  # RuntimeError: no home directory
        warnings.warn(
            f"fastnn: compiled kernels are not kept for the next process: {error}", RuntimeWarning, stacklevel=2
        )
        return None
    return folder


class _Locator(_CacheLocator):
    """Tells Numba's cache machinery to use our folder. The folder's name is the stamp: its contents never go stale."""

    def __init__(self, py_func, py_file):
        self._py_file = py_file  # read by Numba for its messages
        self._line = py_func.__code__.co_firstlineno

    @classmethod
    def from_function(cls, py_func, py_file):
        return cls(py_func, py_file)

    def get_cache_path(self):
        return str(cache_dir())

    def get_source_stamp(self):
        return sources_hash()

    def get_disambiguator(self):
        return str(self._line)


class _Impl(CompileResultCacheImpl):
    _locator_classes = (_Locator,)


class KernelCache(Cache):
    """Numba's cache of one function, in our folder; whatever is wrong with a file of it is a miss."""

    _impl_class = _Impl

    def load_overload(self, sig, target_context):
        try:
            return super().load_overload(sig, target_context)
        except Exception:  # truncated, empty, of another build: an unpickler raises nearly anything
            return None

    def save_overload(self, sig, data):
        try:
            super().save_overload(sig, data)
        except OSError as error:
            warnings.warn(f"fastnn: a compiled kernel could not be saved: {error}", RuntimeWarning, stacklevel=2)
        except Exception:  # an index that cannot be read
            self.flush()
            super().save_overload(sig, data)
