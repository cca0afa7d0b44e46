"""fastnn: neural-network layers on JIT-compiled kernels, with the API of the book "Deep Learning from Scratch".

Importing fastnn compiles nothing and imports neither Numba nor matplotlib nor CuPy: each comes when it is first used.
"""

from pathlib import Path as _Path

from ._version import __version__
from .errors import FileFormatError

# A checkout that is not installed keeps the kernels beside this folder; an installed fastnn has them inside.
_checkout = _Path(__file__).resolve().parent.parent
if (_checkout / "kernels" / "__init__.py").is_file() and (_checkout / "setup.cfg").is_file():
    __path__.append(str(_checkout))

__all__ = ["FileFormatError", "__version__"]
