"""fastnn: neural-network layers on JIT-compiled kernels, with the API of the book "Deep Learning from Scratch".

Importing fastnn compiles nothing and imports neither Numba nor matplotlib nor CuPy: each comes when it is first used.
"""

import importlib.util as _importlib_util
import sys as _sys
from importlib import import_module as _import_module
from pathlib import Path as _Path
from typing import TYPE_CHECKING, Any

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

from .compiled import compile  # noqa: E402  (needs the kernels)
from .kernels import get_num_threads, set_num_threads, threads  # noqa: E402

__all__ = [
    "FileFormatError",
    "MLPClassifier",
    "MLPRegressor",
    "Roofline",
    "ThroughputProfile",
    "__version__",
    "compile",
    "from_torch",
    "get_num_threads",
    "profile",
    "roofline",
    "set_num_threads",
    "threads",
    "to_torch",
    "warmup",
]

if TYPE_CHECKING:
    from ._roofline import Roofline, roofline
    from ._torch import from_torch, to_torch
    from ._warmup import warmup
    from .estimators import MLPClassifier, MLPRegressor
    from .profiling import ThroughputProfile, profile

# Imported when first asked for: few need them, and scikit-learn takes a second, if it is there.
_LATE = {
    "MLPClassifier": "estimators",
    "MLPRegressor": "estimators",
    "Roofline": "_roofline",
    "ThroughputProfile": "profiling",
    "from_torch": "_torch",
    "profile": "profiling",
    "roofline": "_roofline",
    "to_torch": "_torch",
    "warmup": "_warmup",
}


def __getattr__(name: str) -> Any:
    if name in _LATE:
        return getattr(_import_module(f"{__name__}.{_LATE[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
