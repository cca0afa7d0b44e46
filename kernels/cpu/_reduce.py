"""Sums and maxima of rows in memory, in vectors, in LLVM IR.

LLVM makes vectors of a sum only where it may reorder it, and then orders it anew wherever it compiles it: in a kernel
and in its parallel twin, in a helper by itself and in what calls it. Here the order is written down. It depends on the
number of terms and on the length of vectors, on nothing else.
"""

import math

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from ._ir import I64, Vector, element_of, loop, new_function
from ._simd import VECTORS

# Vectors of partial results that are added to in turn: four, since an addition takes four cycles; and where vectors are
# short more, for 32 sums of float32: the fewer, the more digits the sum of a million numbers loses.
_CHAINS = max(4, 128 // VECTORS.bytes)


class _Sums:
    """Sums of terms(builder, *operands), each term a vector, or two to be multiplied."""

    def __init__(self, terms, count=1):
        self.terms, self.count = terms, count

    def start(self, v):
        return [v.zero] * self.count

    def add(self, v, sums, operands):
        return [
            v.multiply_add(*term, total) if isinstance(term, tuple) else v.builder.fadd(term, total)
            for term, total in zip(self.terms(v.builder, *operands), sums, strict=True)
        ]

    def join(self, v, some, others):
        return [v.builder.fadd(x, y) for x, y in zip(some, others, strict=True)]

    def finish(self, v, sums):
        return [v.fold(total, v.builder.fadd) for total in sums]


class _Maximum:
    """The largest element; NaN is passed over, as the instruction does it."""

    count = 1

    def start(self, v):
        return [ir.Constant(v.type, [-math.inf] * v.lanes)]

    def add(self, v, highest, operands):
        return self.join(v, highest, operands[:1])

    def join(self, v, some, others):
        return [v.at_least(x, y) for x, y in zip(some, others, strict=True)]

    def finish(self, v, highest):
        return [v.fold(highest[0], v.at_least)]


def _emit(module, name, kind, rows, signature):
    """The function of addresses of rows, the number of columns, of planes and from plane to plane, and scalars."""
    *_, like = signature.args
    name = f"fastnn_{name}_f{like.bitwidth}"
    if name in module.globals:
        return module.globals[name]
    sum_type = getattr(signature.return_type, "dtype", signature.return_type)
    scalars = [element_of(like)] * sum(arg == like for arg in signature.args)
    result = ir.LiteralStructType([element_of(sum_type)] * kind.count)
    function, builder = new_function(module, name, [I64] * (rows + 3) + scalars, result)
    v = Vector(builder, sum_type)
    row = Vector(builder, like, v.lanes)
    n, planes, step = function.args[rows : rows + 3]
    splats = [row.splat(scalar) for scalar in function.args[rows + 3 :]]
    together, whole = (builder.and_(n, I64(-vectors * v.lanes)) for vectors in (_CHAINS, 1))
    after = v.first_lanes(builder.sub(n, whole))

    def add(pointers, k, state, mask=None):
        """The columns from k on, as many as there are lanes."""
        operands = [row.load(row.at(pointer, k), mask) for pointer in pointers]
        if row.bits < v.bits:
            operands = [builder.fpext(operand, v.type) for operand in operands]
        added = kind.add(v, state, operands + splats)
        if mask is None:
            return added
        return [builder.select(mask, new, old) for new, old in zip(added, state, strict=True)]

    def add_plane(_, values):
        pointers, states = values[:rows], values[rows:]
        size = len(states) // _CHAINS

        def in_turn(k, states):
            result = []
            for i in range(_CHAINS):
                result += add(pointers, builder.add(k, I64(i * v.lanes)), states[i * size : (i + 1) * size])
            return result

        states = loop(builder, I64(0), together, _CHAINS * v.lanes, states, in_turn)
        first = loop(builder, together, whole, v.lanes, states[:size], lambda k, state: add(pointers, k, state))
        first = add(pointers, whole, first, after)
        return [*(row.at(pointer, step) for pointer in pointers), *first, *states[size:]]

    pointers = [row.pointer(address) for address in function.args[:rows]]
    states = loop(builder, I64(0), planes, 1, pointers + kind.start(v) * _CHAINS, add_plane)[rows:]
    while len(states) > len(kind.start(v)):
        half = len(states) // 2
        states = kind.join(v, states[:half], states[half:])
    builder.ret(cgutils.pack_struct(builder, kind.finish(v, states)))
    return function


def _over_columns(name, kind, rows=1, of_planes=False):
    """How an intrinsic is compiled: of addresses of so many rows, their length, and scalars.

    of_planes: between these the number of planes that such rows lie in, and how many elements from one to the next.
    """

    def code(context, builder, signature, args):
        if not of_planes:
            args = [*args[: rows + 1], I64(1), I64(0), *args[rows + 1 :]]
        result = builder.call(_emit(builder.module, name, kind, rows, signature), args)
        values = [builder.extract_value(result, i) for i in range(kind.count)]
        return values[0] if kind.count == 1 else context.make_tuple(builder, signature.return_type, values)

    return code


@intrinsic
def row_max(typing, a, n, like):
    """The largest of the n elements at address a, of the dtype of `like`, that are not NaN; of none -inf."""
    return like(types.intp, types.intp, like), _over_columns("row_max", _Maximum())


@intrinsic
def row_sum(typing, a, n, like):
    """The sum of the elements."""
    terms = _Sums(lambda builder, a, like: [a])
    return like(types.intp, types.intp, like), _over_columns("row_sum", terms)


@intrinsic
def row_dot(typing, a, b, n, like):
    """The sum of a · b."""
    terms = _Sums(lambda builder, a, b, like: [(a, b)])
    return like(types.intp, types.intp, types.intp, like), _over_columns("row_dot", terms, 2)


@intrinsic
def wide_sum(typing, a, n, like):
    """The sum in float64."""
    terms = _Sums(lambda builder, a, like: [a])
    return types.float64(types.intp, types.intp, like), _over_columns("wide_sum", terms)


@intrinsic
def sum_of_squares(typing, a, n, like):
    """The sum of a², in float64."""
    terms = _Sums(lambda builder, a, like: [(a, a)])
    return types.float64(types.intp, types.intp, like), _over_columns("sum_of_squares", terms)


@intrinsic
def squared_distance(typing, a, b, n, like):
    """The sum of (a - b)²."""

    def terms(builder, a, b, like):
        d = builder.fsub(a, b)
        return [(d, d)]

    return like(types.intp, types.intp, types.intp, like), _over_columns("squared_distance", _Sums(terms), 2)


# Of planes: `planes` rows, `step` elements from one to the next.


@intrinsic
def plane_sum(typing, a, n, planes, step, like):
    """The sum of the elements."""
    terms = _Sums(lambda builder, a, like: [a])
    return like(*[types.intp] * 4, like), _over_columns("row_sum", terms, of_planes=True)


@intrinsic
def sums_about(typing, a, n, planes, step, center):
    """The sums of a - center, and of its squares."""

    def terms(builder, a, center):
        d = builder.fsub(a, center)
        return [d, (d, d)]

    signature = types.UniTuple(center, 2)(*[types.intp] * 4, center)
    return signature, _over_columns("sums_about", _Sums(terms, 2), of_planes=True)


@intrinsic
def sums_with(typing, b, a, n, planes, step, center):
    """The sums of b, and of b · (a - center)."""

    def terms(builder, b, a, center):
        return [b, (b, builder.fsub(a, center))]

    signature = types.UniTuple(center, 2)(*[types.intp] * 5, center)
    return signature, _over_columns("sums_with", _Sums(terms, 2), 2, of_planes=True)


@intrinsic
def cross_entropy_sum(typing, q, x, n, m, log_s):
    """The sum of q · (log_s + (m - x)); terms where q is 0 are 0, however impossible the score.

    In this order: log_s + m first would lose the digits of a small loss.
    """

    def terms(builder, q, x, m, log_s):
        zero = ir.Constant(q.type, None)
        loss = builder.fmul(q, builder.fadd(log_s, builder.fsub(m, x)))
        return [builder.select(builder.fcmp_unordered("!=", q, zero), loss, zero)]

    signature = m(types.intp, types.intp, types.intp, m, m)
    return signature, _over_columns("cross_entropy_sum", _Sums(terms), 2)
