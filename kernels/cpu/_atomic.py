"""Integers in memory that several threads read and write, each of them seeing what the others did before."""

import platform

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from ._ir import I32, I64

_ORDER = "seq_cst"
_PAUSE = {"x86_64": ("llvm.x86.sse2.pause", []), "amd64": ("llvm.x86.sse2.pause", [])}
_PAUSE |= dict.fromkeys(("aarch64", "arm64"), ("llvm.aarch64.hint", [I32(1)]))


def _pointer(builder, address):
    return builder.inttoptr(address, I64.as_pointer())


@intrinsic
def look(typing, address):
    """The integer at an address, read now."""
    return types.intp(types.intp), lambda context, builder, signature, args: builder.load_atomic(
        _pointer(builder, args[0]), _ORDER, 8
    )


@intrinsic
def publish(typing, address, value):
    """Write an integer: who sees it sees all that was written before."""

    def code(context, builder, signature, args):
        builder.store_atomic(args[1], _pointer(builder, args[0]), _ORDER, 8)
        return context.get_dummy_value()

    return types.void(types.intp, types.intp), code


@intrinsic
def exchange(typing, address, value):
    """Write an integer; returns what was there."""
    return types.intp(types.intp, types.intp), lambda context, builder, signature, args: builder.atomic_rmw(
        "xchg", _pointer(builder, args[0]), args[1], _ORDER
    )


@intrinsic
def replace(typing, address, expected, value):
    """Write an integer where `expected` was; whether it was."""

    def code(context, builder, signature, args):
        result = builder.cmpxchg(_pointer(builder, args[0]), args[1], args[2], _ORDER, _ORDER)
        return builder.extract_value(result, 1)

    return types.boolean(types.intp, types.intp, types.intp), code


@intrinsic
def pause(typing):
    """Wait for some cycles, which leaves more of the core to whoever shares it."""

    def code(context, builder, signature, args):
        name, values = _PAUSE.get(platform.machine().lower(), (None, []))
        if name is not None:
            function = ir.FunctionType(ir.VoidType(), [value.type for value in values])
            builder.call(builder.module.globals.get(name) or ir.Function(builder.module, function, name), values)
        return context.get_dummy_value()

    return types.void(), code
