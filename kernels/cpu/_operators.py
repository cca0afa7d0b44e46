"""Operators of plain numbers, as Numba types them itself, but found at once.

Numba tries the types for which `a + b` might stand one after the other, text, lists, arrays of dates among them, and
numbers last; each time that it meets one. That was a tenth of the time that kernels took to compile. What is registered
for the CPU, and not for every target, it tries first.
"""

import operator

from numba import types
from numba.core.typing.arraydecl import GetItemBuffer
from numba.core.typing.templates import AbstractTemplate, infer_global, signature
from numba.extending import lower_builtin

_FIRST = {"target": "cpu"}


def _register(key, count, numbers, result=None):
    """The operator takes so many of `numbers`, alike, and returns such a one, or `result`."""

    class Template(AbstractTemplate):
        metadata = _FIRST

        def generic(self, args, kws):
            if len(args) == count and args[0] in numbers and args == args[:1] * count:
                return signature(result or args[0], *args)

    infer_global(key)(Template)


_NUMBERS = (types.int64, types.float32, types.float64)
for _name in ("add", "sub", "mul", "floordiv", "mod"):
    _register(getattr(operator, _name), 2, _NUMBERS)
    _register(getattr(operator, f"i{_name}"), 2, _NUMBERS)
for _name in ("eq", "ne", "lt", "le", "gt", "ge"):
    _register(getattr(operator, _name), 2, _NUMBERS, types.boolean)
_register(operator.truediv, 2, _NUMBERS[1:])
_register(operator.neg, 1, _NUMBERS)
_register(bool, 1, (types.boolean,))


def _register_extreme(key, relation):
    """`min` or `max` of two integers, which for Numba is a function to be compiled."""
    _register(key, 2, (types.int64,))

    @lower_builtin(key, types.int64, types.int64)
    def lower(context, builder, signature, args):
        return builder.select(builder.icmp_signed(relation, *args), *args)


_register_extreme(min, "<")
_register_extreme(max, ">")


@infer_global(operator.getitem)
class _GetItem(GetItemBuffer):
    metadata = _FIRST
