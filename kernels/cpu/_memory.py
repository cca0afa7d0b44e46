"""Memory by its address, and functions by theirs, for Numba's code."""

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from ._caches import LINE_BYTES
from ._ir import BYTE_POINTER, I1, I32, I64, Vector, constant_array
from ._jit import jit
from ._simd import VECTORS

PAGE_BYTES = 4096


@intrinsic
def copy_bytes(typing, to, source, count):
    """memcpy. LLVM turns it into a few vector moves where `count` is a constant."""

    def code(context, builder, signature, args):
        memcpy = builder.module.declare_intrinsic("llvm.memcpy", [BYTE_POINTER, BYTE_POINTER, I64])
        to, source = (builder.inttoptr(address, BYTE_POINTER) for address in args[:2])
        builder.call(memcpy, [to, source, args[2], I1(0)])
        return context.get_dummy_value()

    return types.void(*[types.intp] * 3), code


@intrinsic
def prefetch(typing, address):
    """Have the cache line at an address fetched into the second-level cache; the address need not exist."""

    def code(context, builder, signature, args):
        constants = [I32(n) for n in (0, 2, 1)]  # to read, not into the first level, data
        function = ir.FunctionType(ir.VoidType(), [BYTE_POINTER] + 3 * [I32])
        function = cgutils.get_or_insert_function(builder.module, function, "llvm.prefetch.p0")
        builder.call(function, [builder.inttoptr(args[0], BYTE_POINTER), *constants])
        return context.get_dummy_value()

    return types.void(types.intp), code


def _store_past_caches(builder, v, value, to):
    stored = builder.store(value, builder.bitcast(v.pointer(to), v.type.as_pointer()))
    stored.align = v.lanes * v.bits // 8
    stored.set_metadata("nontemporal", builder.module.add_metadata([I32(1)]))


@intrinsic
def scale_past_caches(typing, to, source, factor):
    """Write factor times the vector at `source` to `to`, a multiple of a vector's bytes, and not into the caches.

    Before anybody else is told of it, there must be a `fence`.
    """

    def code(context, builder, signature, args):
        v = Vector(builder, factor)
        _store_past_caches(builder, v, builder.fmul(v.load(v.pointer(args[1])), v.splat(args[2])), args[0])
        return context.get_dummy_value()

    return types.void(types.intp, types.intp, factor), code


@intrinsic
def _copy_vector_past_caches(typing, to, source):

    def code(context, builder, signature, args):
        v = Vector(builder, types.float32)
        _store_past_caches(builder, v, v.load(v.pointer(args[1])), args[0])
        return context.get_dummy_value()

    return types.void(types.intp, types.intp), code


@jit
def copy_past_caches(to, source, count):
    """The same without a factor, of `count` bytes anywhere: bit for bit. Those outside of whole vectors go through."""
    head = min(count, -to % VECTORS.bytes)
    end = head + (count - head) // VECTORS.bytes * VECTORS.bytes
    if head > 0:
        copy_bytes(to, source, head)
    for i in range(head, end, VECTORS.bytes):
        _copy_vector_past_caches(to + i, source + i)
    if end < count:
        copy_bytes(to + end, source + end, count - end)


@intrinsic
def fence(typing):
    """Let all that was written be seen by all before anything that is written later."""

    def code(context, builder, signature, args):
        builder.fence("seq_cst")
        return context.get_dummy_value()

    return types.void(), code


@intrinsic
def one_element(typing, like):
    """Address of a one: with strides of 0 a matrix of ones of any shape."""

    def code(context, builder, signature, args):
        return builder.ptrtoint(constant_array(builder.module, "fastnn_one", args[0].type, [1.0]), I64)

    return types.intp(like), code


@intrinsic
def load(typing, address, index, like):
    """The element number `index` of the row at `address`. In a loop over `index` LLVM makes vectors of it."""

    def code(context, builder, signature, args):
        row = builder.inttoptr(args[0], args[2].type.as_pointer())
        return builder.load(builder.gep(row, [args[1]]))

    return like(types.intp, types.intp, like), code


@intrinsic
def store(typing, address, index, value):
    """Set the element number `index` of the row at `address`."""

    def code(context, builder, signature, args):
        row = builder.inttoptr(args[0], args[2].type.as_pointer())
        builder.store(args[2], builder.gep(row, [args[1]]))
        return context.get_dummy_value()

    return types.void(types.intp, types.intp, value), code


def _emit_call(builder, result, args, count):
    address, packed = args
    values = [builder.extract_value(packed, i) for i in range(count)]
    function = ir.FunctionType(result, [value.type for value in values])
    return builder.call(builder.inttoptr(address, function.as_pointer()), values)


@intrinsic
def call(typing, address, *args):
    """Call the compiled function at `address`, which returns nothing, with integers and floats."""
    signature = types.void(types.intp, types.StarArgTuple.from_types(args))

    def code(context, builder, signature, args):
        _emit_call(builder, ir.VoidType(), args, len(signature.args[1]))
        return context.get_dummy_value()

    return signature, code


@intrinsic
def ask(typing, address, *args):
    """The same of a function that returns an integer."""
    signature = types.intp(types.intp, types.StarArgTuple.from_types(args))
    return signature, lambda context, builder, signature, args: _emit_call(builder, I64, args, len(signature.args[1]))


@intrinsic
def on_stack(typing, values):
    """The address of these integers in memory, as long as the function runs."""
    count = len(values)

    def code(context, builder, signature, args):
        memory = cgutils.alloca_once(builder, I64, count)
        for i in range(count):
            builder.store(builder.extract_value(args[0], i), builder.gep(memory, [I64(i)]))
        return builder.ptrtoint(memory, I64)

    return types.intp(types.UniTuple(types.intp, count)), code


@intrinsic
def page_on_stack(typing):
    """The address of PAGE_BYTES of memory, which begin with a cache line, as long as the function runs."""

    def code(context, builder, signature, args):
        memory = cgutils.alloca_once(builder, ir.ArrayType(I64, PAGE_BYTES // 8))
        memory.align = LINE_BYTES
        return builder.ptrtoint(memory, I64)

    return types.intp(), code


# Memory of so many bytes, to be freed, by its address; 0 if there is none. For functions that are called by their
# addresses: these must tell their caller, as an exception (of `np.empty`) would be printed, and lost.
allocate = types.ExternalFunction("NRT_Allocate", types.intp(types.intp))
free = types.ExternalFunction("NRT_Free", types.void(types.intp))


@intrinsic
def address(typing, array):
    """Address of the first element of an array."""

    def code(context, builder, signature, args):
        data = context.make_array(signature.args[0])(context, builder, args[0]).data
        return builder.ptrtoint(data, I64)

    return types.intp(array), code


@intrinsic
def keep(typing, array):
    """Use an array whose address was taken: until here it is not freed."""
    return types.void(array), lambda context, builder, signature, args: context.get_dummy_value()
