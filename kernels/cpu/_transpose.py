"""Square blocks transposed in registers, in LLVM IR."""

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from ._dtype import itemsize, lanes
from ._ir import I32, I64, Vector, new_function
from ._jit import jit


def _emit_transpose(module, float_type, masked):
    """to[j, i] = from[i, j] for a square block of one vector's lanes, by log2(lanes) rounds of exchanges."""
    name = f"fastnn_transpose_f{float_type.bitwidth}{f'_masked_{masked}' if masked else ''}"
    if name in module.globals:
        return module.globals[name]
    function, builder = new_function(module, name, [I64] * 6)
    v = Vector(builder, float_type)
    to, to_row, source, source_row, m, n = function.args
    to, source = v.pointer(to), v.pointer(source)
    columns = v.first_lanes(n)

    def mask(i, where):
        if masked != where:
            return None
        return builder.select(builder.icmp_signed("<", I64(i), m), columns, ir.Constant(columns.type, None))

    rows = [v.load(v.at(source, builder.mul(source_row, I64(i))), mask(i, "load")) for i in range(v.lanes)]
    bit = 1
    while bit < v.lanes:  # exchange this bit of the row index with that of the lane index
        low = [lane if not lane & bit else v.lanes + (lane ^ bit) for lane in range(v.lanes)]
        high = [lane | bit if not lane & bit else v.lanes + lane for lane in range(v.lanes)]
        low, high = (ir.Constant(ir.VectorType(I32, v.lanes), order) for order in (low, high))
        for i in range(v.lanes):
            if not i & bit:
                pair = rows[i], rows[i | bit]
                rows[i], rows[i | bit] = builder.shuffle_vector(*pair, low), builder.shuffle_vector(*pair, high)
        bit *= 2
    for i in range(v.lanes):
        v.store(rows[i], v.at(to, builder.mul(to_row, I64(i))), mask(i, "store"))
    builder.ret_void()
    return function


def _transpose(masked):
    """Make transpose(to, to_row, source, source_row, m, n, like): a square block of `source` transposed in registers.

    masked "load": only the first m rows and n columns of the block are read, and the whole square is written, zeros
    where nothing was read. masked "store": the whole square is read, and the first m rows and n columns of the result
    are written. None: both whole.
    """

    @intrinsic
    def transpose(typing, to, to_row, source, source_row, m, n, like):
        def code(context, builder, signature, args):
            builder.call(_emit_transpose(builder.module, like, masked), args[:6])
            return context.get_dummy_value()

        return types.void(*[types.intp] * 6, like), code

    return transpose


transpose_full = _transpose(None)
transpose_masked = _transpose("load")
transpose_masked_store = _transpose("store")


@jit
def transpose_matrix(to, to_row, source, source_row, m, n, alpha):
    """to[j, i] = source[i, j], an (m, n) matrix; `to` has room for whole vectors along both axes."""
    size, vector = itemsize(alpha), lanes(alpha)
    for i in range(0, m, vector):
        for j in range(0, n, vector):
            target, block = to + (j * to_row + i) * size, source + (i * source_row + j) * size
            if i + vector <= m and j + vector <= n:
                transpose_full(target, to_row, block, source_row, vector, vector, alpha)
            else:
                transpose_masked(target, to_row, block, source_row, m - i, n - j, alpha)


@jit
def transpose_scratch(to, to_row, source, source_row, m, n, alpha):
    """The same of scratch memory, which has that room; `to` has no more than its elements."""
    size, vector = itemsize(alpha), lanes(alpha)
    for j in range(0, n, vector):
        for i in range(0, m, vector):
            target, block = to + (j * to_row + i) * size, source + (i * source_row + j) * size
            if i + vector <= m and j + vector <= n:
                transpose_full(target, to_row, block, source_row, vector, vector, alpha)
            else:
                transpose_masked_store(target, to_row, block, source_row, n - j, m - i, alpha)
