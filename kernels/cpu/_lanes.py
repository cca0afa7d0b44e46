"""Vectors as values: `Lanes` are as many floats as a register of the CPU holds.

For loops that LLVM would not make vectors of, or would with code for all that might be: whose arrays might overlap, or
whose sums are not to be reordered. In a kernel they are variables like any other; rows are given by their address.
"""

from llvmlite import ir
from numba import types
from numba.core.datamodel import models
from numba.extending import intrinsic, register_model

from ._ir import I32, Vector, lanes_of


class Lanes(types.Type):
    def __init__(self, dtype):
        self.dtype = dtype
        super().__init__(f"Lanes({dtype})")


@register_model(Lanes)
class _LanesModel(models.PrimitiveModel):
    def __init__(self, dmm, fe_type):
        element = ir.FloatType() if fe_type.dtype == types.float32 else ir.DoubleType()
        super().__init__(dmm, fe_type, ir.VectorType(element, lanes_of(fe_type.dtype)))


@intrinsic
def load_lanes(typing, address, like):
    """Those that begin at an address, of the dtype of a number."""

    def code(context, builder, signature, args):
        v = Vector(builder, like)
        return v.load(v.pointer(args[0]))

    return Lanes(like)(types.intp, like), code


@intrinsic
def store_lanes(typing, address, x):
    def code(context, builder, signature, args):
        v = Vector(builder, x.dtype)
        v.store(args[1], v.pointer(args[0]))
        return context.get_dummy_value()

    return types.void(types.intp, x), code


@intrinsic
def all_lanes(typing, number):
    """The same number in each."""
    return Lanes(number)(number), lambda context, builder, signature, args: Vector(builder, number).splat(args[0])


@intrinsic
def first_lanes(typing, x, n):
    """x, and 0 in all but the first n."""

    def code(context, builder, signature, args):
        v = Vector(builder, x.dtype)
        return builder.select(v.first_lanes(args[1]), args[0], v.zero)

    return x(x, types.intp), code


@intrinsic
def store_sums(typing, address, a, b, c, d, count):
    """The sums of the lanes of a, b, c and d, one after the other; only the first `count` of them are stored.

    Four at a time take a third of the instructions of one at a time.
    """

    def code(context, builder, signature, args):
        address, *vectors, count = args

        def take(x, y, lanes):
            return builder.shuffle_vector(x, y, ir.Constant(ir.VectorType(I32, len(lanes)), list(lanes)))

        def fold(x, y, lanes, group):
            """Of each group of these lanes of x, and of y behind them: its first half + its second half."""
            first = [start + i for start in range(0, lanes, group) for i in range(group // 2)]
            return builder.fadd(take(x, y, first), take(x, y, [i + group // 2 for i in first]))

        n = lanes_of(a.dtype)
        x, y = (fold(*pair, 2 * n, n) for pair in (vectors[:2], vectors[2:]))
        sums = fold(x, y, 2 * n, n // 2) if n > 2 else take(x, y, range(4))
        while sums.type.count > 4:
            sums = fold(sums, sums, sums.type.count, sums.type.count // 4)
        four = Vector(builder, a.dtype, 4)
        four.store(sums, four.pointer(address), four.first_lanes(count))
        return context.get_dummy_value()

    return types.void(types.intp, a, a, a, a, types.intp), code


@intrinsic
def multiply_add(typing, x, y, z):
    """x · y + z"""
    return x(x, x, x), lambda context, builder, signature, args: Vector(builder, x.dtype).multiply_add(*args)


def _operation(name):
    @intrinsic
    def operation(typing, x, y):
        return x(x, x), lambda context, builder, signature, args: getattr(builder, name)(*args)

    return operation


add, subtract, multiply, divide = (_operation(name) for name in ("fadd", "fsub", "fmul", "fdiv"))


@intrinsic
def larger_lanes(typing, x, y):
    """The larger; y where either is NaN."""

    def code(context, builder, signature, args):
        return builder.select(builder.fcmp_ordered(">", *args), *args)

    return x(x, x), code


@intrinsic
def where_equal(typing, x, y, a, b):
    """a where x = y, else b."""

    def code(context, builder, signature, args):
        return builder.select(builder.fcmp_ordered("==", *args[:2]), *args[2:])

    return x(x, x, x, x), code
