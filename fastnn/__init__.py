"""fastnn: neural-network layers on JIT-compiled kernels, with the API of the book "Deep Learning from Scratch".

Importing fastnn compiles nothing and imports neither Numba nor matplotlib nor CuPy: each comes when it is first used.
"""

import importlib.util as _importlib_util
import sys as _sys
from pathlib import Path as _Path

from ._version import __version__
from .errors import FileFormatError

# An installed fastnn has its kernels inside; a checkout that is not installed has them beside this folder.
_beside = _Path(__file__).resolve().parent.parent / "kernels" / "__init__.py"
if _importlib_util.find_spec("fastnn.kernels") is None and _beside.is_file():
    _spec = _importlib_util.spec_from_file_location(
        "fastnn.kernels", _beside, submodule_search_locations=[str(_beside.parent)]
    )
    assert _spec is not None and _spec.loader is not None
    kernels = _sys.modules["fastnn.kernels"] = _importlib_util.module_from_spec(_spec)
    _spec.loader.exec_module(kernels)

from ._roofline import Roofline, roofline  # noqa: E402  (needs the kernels)
from .compiled import compile  # noqa: E402
from .kernels import get_num_threads, set_num_threads, threads  # noqa: E402

__all__ = [
    "FileFormatError",
    "Roofline",
    "__version__",
    "compile",
    "get_num_threads",
    "roofline",
    "set_num_threads",
    "threads",
]
