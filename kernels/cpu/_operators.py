"""Operators of plain numbers, as Numba types them itself, but found at once.

Numba tries the types for which `a + b` might stand one after the other, text, lists, arrays of dates among them, and
numbers last; each time that it meets one. That was a tenth of the time that kernels took to compile. What is registered
for the CPU, and not for every target, it tries first.
"""

import operator

from numba import types
from numba.core.typing.arraydecl import GetItemBuffer
from numba.core.typing.templates import AbstractTemplate, infer_global, signature

_FIRST = {"target": "cpu"}


def _register(key, numbers, result=None):
    """The operator takes one or two of `numbers`, alike, and returns such a one, or `result`."""

    class Template(AbstractTemplate):
        metadata = _FIRST

        def generic(self, args, kws):
            number = args[0]
            if number in numbers and all(arg == number for arg in args):
                return signature(result or number, *args)

    infer_global(key)(Template)


_NUMBERS = (types.int64, types.float32, types.float64)
for _name in ("add", "sub", "mul", "floordiv", "mod"):
    _register(getattr(operator, _name), _NUMBERS)
    _register(getattr(operator, f"i{_name}"), _NUMBERS)
for _name in ("eq", "ne", "lt", "le", "gt", "ge"):
    _register(getattr(operator, _name), _NUMBERS, types.boolean)
_register(operator.truediv, _NUMBERS[1:])
_register(operator.neg, _NUMBERS)
_register(bool, (types.boolean,))


@infer_global(operator.getitem)
class _GetItem(GetItemBuffer):
    metadata = _FIRST
