"""Work that compiled code shares out among threads: what ``prange`` does, with less to compile and to prepare."""

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from ._compiler import PARALLEL_FOR
from ._ir import I64


@intrinsic
def in_parts(typing_context, threads, parts, function, before, after):
    r"""Call the compiled function at an address with (\*before, part, \*after) for each part, on so many threads.

    before, after: tuples of integers and floats. Before what calls this is compiled there must be a `launch_workers`.
    """

    def code(context, builder, signature, args):
        threads, parts, function, before, after = args
        before, after = cgutils.unpack_tuple(builder, before), cgutils.unpack_tuple(builder, after)
        with builder.if_else(builder.icmp_signed("==", parts, I64(1))) as (alone, shared):
            with alone:
                _call(builder, function, [*before, I64(0), *after])
            with shared:
                work = cgutils.pack_struct(builder, [function, *before, *after])
                numbers = [cgutils.alloca_once_value(builder, n) for n in (I64(0), parts, I64(1), work)]
                some = _emit_some_parts(builder, work.type, len(before))
                addresses = [builder.ptrtoint(pointer, I64) for pointer in (some, *numbers)]
                run = cgutils.get_or_insert_function(builder.module, _takes([I64] * 8), PARALLEL_FOR)
                builder.call(run, [*addresses, I64(0), I64(1), threads])
        return context.get_dummy_value()

    return types.void(*[types.intp] * 3, before, after), code


def _takes(arguments):
    return ir.FunctionType(ir.VoidType(), arguments)


def _call(builder, address, values):
    function = _takes([value.type for value in values])
    builder.call(builder.inttoptr(address, function.as_pointer()), values)


def _emit_some_parts(caller, work_type, before):
    """What a thread calls with the addresses of its first part, of the number of its parts, of 1, and of `work`."""
    name = caller.module.get_unique_name(f"{caller.function.name}.parts")
    function = ir.Function(caller.module, _takes([I64] * 4), name)
    function.linkage = "internal"
    builder = ir.IRBuilder(function.append_basic_block("entry"))
    first, count, _, work = function.args
    first, count = (builder.load(builder.inttoptr(at, I64.as_pointer())) for at in (first, count))
    address, *values = cgutils.unpack_tuple(builder, builder.load(builder.inttoptr(work, work_type.as_pointer())))
    with cgutils.for_range(builder, count) as loop:
        _call(builder, address, [*values[:before], builder.add(first, loop.index), *values[before:]])
    builder.ret_void()
    return function
