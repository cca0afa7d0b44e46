"""Register tiles: the innermost loop of a matrix product, in LLVM IR. The loops round it (_gemm.py) are plain Numba.

A `tile` computes ``rows`` x ``vectors`` vectors of C in registers (Goto, van de Geijn, ACM TOMS 34, 2008; the BLIS
micro-kernel of Van Zee, van de Geijn, ACM TOMS 41, 2015):

    C[i, :] = max(alpha · sum_k A[i, k] · B[k, :] + start[i, :], floor)

That one ending serves all: start is a row of zeros (store), the bias with row stride 0 (affine), or C itself
(accumulate; with alpha = -lr the update W -= lr · dW); floor is 0 for relu and -inf otherwise.
A few columns that would fill a vector badly are the work of `dots`, whose vectors run along k.
Why IR: loops that LLVM vectorises by itself reach 35-80 % of this, and nothing else in Numba pins values to registers.
"""

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from ._ir import I64, Vector, constant_array, element_of, lanes_of, loop, new_function, opaque
from ._simd import VECTORS

_MANY_REGISTERS = VECTORS.tile_sums > 12
TILE_VECTORS = 3 if _MANY_REGISTERS else 2
TILE_ROWS = VECTORS.tile_sums // TILE_VECTORS
DOT_ROWS = 4

_ROWS_PER_BASE = 5
# One row takes up to four vectors at once, to read B in one pass: float32 products with (784, 50) are 15 % faster, with
# (784, 512) 18 %.
WIDE = 4

# A multiply-add takes 4 cycles and two can start in each, so at least 8 independent sums are needed to keep them busy.
# Tiles of one or two rows have fewer of their own: they take several k a turn, each into other accumulators. As many
# for any number of vectors, and none for higher tiles, although some could use it: the order of sums must not depend on
# how columns and rows are divided.
_STEPS_OF_FEW_ROWS = 4 if _MANY_REGISTERS else 2

# So many rows of B before they are needed they are fetched from the second-level cache: rows that are not whole cache
# lines come at half speed else. (1, 50, 784): - 7 %, (1, 512, 784): - 15 %, products of 1000: - 3 %. With 16 registers
# only for a single row (- 20 %): the higher tiles have no instruction to spare there (products of 1000: + 3 %).
_ROWS_AHEAD = 8

# Rows of C so many elements apart are fetched when a tile begins, for when its sums are done: nobody else foresees it.
# (512, 1024, 1024): - 3 % in float32, - 6 % in float64. Of narrow matrices C is near; there it would cost 1 %.
_FAR_ROWS = 512


def _emit_tile(module, float_type, rows, vectors, masked):
    """The function of one tile; see `tile`."""
    name = f"fastnn_tile_f{float_type.bitwidth}_{rows}x{vectors}{'_masked' if masked else ''}"
    if name in module.globals:
        return module.globals[name]
    function, builder = new_function(module, name, [I64] * 11 + [element_of(float_type)] * 2)
    v = Vector(builder, float_type)
    depth, a, a_row, a_col, b, b_row, c, c_row, start, start_row, n, alpha, floor = function.args
    a, b, c, start = (v.pointer(address) for address in (a, b, c, start))
    masks = [v.first_lanes(n, j * v.lanes) if masked else None for j in range(vectors)]
    # Row i of A is found at bases[i // 5] + offsets[i % 5]: three pointers to advance and four fixed registers.
    bases = [opaque(builder, v.at(a, builder.mul(a_row, I64(i)))) for i in range(0, rows, _ROWS_PER_BASE)]
    offsets = [opaque(builder, builder.mul(a_row, I64(i))) for i in range(min(rows, _ROWS_PER_BASE))]

    if rows > 2:
        with builder.if_then(builder.icmp_signed(">=", c_row, I64(_FAR_ROWS))):
            for i in range(rows):
                for j in range(vectors):
                    v.prefetch(v.at(v.at(c, builder.mul(c_row, I64(i))), I64(j * v.lanes)))

    prefetches, rows_ahead = rows == 1 or _MANY_REGISTERS, builder.mul(b_row, I64(_ROWS_AHEAD))

    def rank_one_update(bases, b, sums):
        """sums + (column k of A) x (row k of B)"""
        b_vectors = [v.load(v.at(b, I64(j * v.lanes)), masks[j]) for j in range(vectors)]
        if prefetches:
            for j in range(vectors):
                v.prefetch(v.at(v.at(b, rows_ahead), I64(j * v.lanes)))
        result = []
        for i in range(rows):
            # A scheduling barrier: without it LLVM hoists all the loads of A and spills the accumulators
            # (25-40 instead of 116 GFLOP/s for 12x2). It must be empty: Numba's LLVM has no assembly parser.
            builder.asm(ir.FunctionType(ir.VoidType(), []), "", "~{memory}", [], True)
            a_i = bases[i // _ROWS_PER_BASE]
            a_vector = v.splat(builder.load(v.at(a_i, offsets[i % _ROWS_PER_BASE]) if i % _ROWS_PER_BASE else a_i))
            result += [v.multiply_add(a_vector, b_vectors[j], sums[i * vectors + j]) for j in range(vectors)]
        return result

    def loop_over_k(k_first, k_end, bases, b, steps, sums):
        """Add columns k_first..k_end of A, `steps` a turn, each step into its own share of `sums`."""
        count, share = len(bases), len(sums) // steps

        def turn(k, values):
            b, bases, sums = values[0], values[1 : 1 + count], values[1 + count :]
            for step in range(steps):
                part = slice(step * share, (step + 1) * share)
                sums[part] = rank_one_update(bases, b, sums[part])
                b, bases = v.at(b, b_row), [v.at(base, a_col) for base in bases]
            return [b, *bases, *sums]

        b, *results = loop(builder, k_first, k_end, steps, [b, *bases, *sums], turn)
        return b, results[:count], results[count:]

    size = rows * vectors
    steps = _STEPS_OF_FEW_ROWS if rows <= 2 else 1
    sums = [v.zero] * (size * steps)
    if steps > 1:
        whole = builder.and_(depth, I64(-steps))
        b, bases, sums = loop_over_k(I64(0), whole, bases, b, steps, sums)
        while len(sums) > size:
            half = len(sums) // 2
            sums = [builder.fadd(x, y) for x, y in zip(sums[:half], sums[half:], strict=True)]
        _, _, sums = loop_over_k(whole, depth, bases, b, 1, sums)
    else:
        _, _, sums = loop_over_k(I64(0), depth, bases, b, 1, sums)

    alpha, floor = v.splat(alpha), v.splat(floor)
    for i in range(rows):
        c_i, start_i = v.at(c, builder.mul(c_row, I64(i))), v.at(start, builder.mul(start_row, I64(i)))
        for j in range(vectors):
            offset = I64(j * v.lanes)
            x = v.multiply_add(alpha, sums[i * vectors + j], v.load(v.at(start_i, offset), masks[j]))
            v.store(v.at_least(x, floor), v.at(c_i, offset), masks[j])
    builder.ret_void()
    return function


def _emit_dots(module, float_type, columns):
    """The function of `dots` for so many columns."""
    name = f"fastnn_dots_f{float_type.bitwidth}_{columns}"
    if name in module.globals:
        return module.globals[name]
    function, builder = new_function(module, name, [I64] * 10 + [element_of(float_type)] * 2)
    v = Vector(builder, float_type)
    rows, depth, a, a_row, b, b_col, c, c_row, start, start_row, alpha, floor = function.args
    a, b, c, start = (v.pointer(address) for address in (a, b, c, start))
    last = builder.sub(rows, I64(1))  # is computed again where there are fewer rows
    numbers = [builder.select(builder.icmp_signed("<", I64(i), last), I64(i), last) for i in range(DOT_ROWS)]
    a_rows = [v.at(a, builder.mul(a_row, i)) for i in numbers]
    b_columns = [v.at(b, builder.mul(b_col, I64(j))) for j in range(columns)]

    def add_products(k, sums, mask=None):
        b_vectors = [v.load(v.at(b_j, k), mask) for b_j in b_columns]
        result = []
        for i, a_i in enumerate(a_rows):
            a_vector = v.load(v.at(a_i, k), mask)
            result += [v.multiply_add(a_vector, b_vectors[j], sums[i * columns + j]) for j in range(columns)]
        return result

    whole = builder.and_(depth, I64(-v.lanes))
    sums = loop(builder, I64(0), whole, v.lanes, [v.zero] * (DOT_ROWS * columns), add_products)
    sums = add_products(whole, sums, v.first_lanes(builder.sub(depth, whole)))
    # All of `start` is read before C, which it may be, is written: a row that is computed again must not be added to.
    starts = [v.at(v.at(start, builder.mul(start_row, i)), I64(j)) for i in numbers for j in range(columns)]
    places = [v.at(v.at(c, builder.mul(c_row, i)), I64(j)) for i in numbers for j in range(columns)]
    values = [builder.load(place) for place in starts]
    for x, value, place in zip(sums, values, places, strict=True):
        builder.store(v.at_least(v.scalar_multiply_add(alpha, v.fold(x, builder.fadd), value), floor), place)
    builder.ret_void()
    return function


def most_dots_of(float_type):
    """Columns that `dots` takes: a quarter of a vector, since more would take longer than a vector of them."""
    return lanes_of(float_type) // 4


@intrinsic
def tile(typing, rows, n, depth, a, a_row, a_col, b, b_row, c, c_row, start, start_row, alpha, floor):
    """One tile of `rows` (1..TILE_ROWS) by `n` (at most TILE_VECTORS, WIDE if of one row); it touches no other memory.

    depth: the length of the sum. a, b, c, start: addresses. a_row, a_col: elements from one row, one column of A to the
    next; b_row, c_row, start_row: from row to row, whose elements are adjacent. alpha, floor: scalars of the dtype.
    """

    def code(context, builder, signature, args):
        rows, n, depth, *operands, alpha_value, floor_value = args
        vector = lanes_of(alpha)
        whole = I64(TILE_VECTORS * vector)
        kinds = [(TILE_VECTORS, False), *((vectors, True) for vectors in range(TILE_VECTORS, 0, -1))]
        is_wide = builder.icmp_signed(">", n, whole)
        vectors = builder.sdiv(builder.add(n, I64(vector - 1)), I64(vector))
        masked = builder.sub(I64(TILE_VECTORS + 1), vectors)
        kind = builder.select(builder.icmp_signed("==", n, whole), I64(0), masked)
        end = builder.append_basic_block("tile_end")
        number = builder.add(rows, builder.mul(kind, I64(TILE_ROWS)))
        number = builder.select(is_wide, I64(0), number)
        choice = builder.switch(number, end)
        for number, (vectors, is_masked) in enumerate(kinds):
            for height in range(1, TILE_ROWS + 1):
                case = builder.append_basic_block("tile_case")
                choice.add_case(I64(number * TILE_ROWS + height), case)
                builder.position_at_end(case)
                function = _emit_tile(builder.module, alpha, height, vectors, is_masked)
                builder.call(function, [depth, *operands, n, alpha_value, floor_value])
                builder.branch(end)
        wide = builder.append_basic_block("tile_wide")
        choice.add_case(I64(0), wide)
        builder.position_at_end(wide)
        builder.call(_emit_tile(builder.module, alpha, 1, WIDE, True), [depth, *operands, n, alpha_value, floor_value])
        builder.branch(end)
        builder.position_at_end(end)
        return context.get_dummy_value()

    return types.void(*[types.intp] * 12, alpha, alpha), code


@intrinsic
def dots(typing, columns, rows, depth, a, a_row, b, b_col, c, c_row, start, start_row, alpha, floor):
    """What `tile` computes, for up to DOT_ROWS rows (of `rows` that are left) and `columns` (1..most_dots).

    Rows of A, and columns of B, which are b_col elements apart, must be contiguous. The order of sums depends on
    `depth` alone.
    """

    def code(context, builder, signature, args):
        columns, *args = args
        end = builder.append_basic_block("dots_end")
        choice = builder.switch(columns, end)
        for number in range(1, most_dots_of(alpha) + 1):
            case = builder.append_basic_block("dots_case")
            choice.add_case(I64(number), case)
            builder.position_at_end(case)
            builder.call(_emit_dots(builder.module, alpha, number), args)
            builder.branch(end)
        builder.position_at_end(end)
        return context.get_dummy_value()

    return types.void(*[types.intp] * 11, alpha, alpha), code


@intrinsic
def most_dots(typing, like):
    """Columns that `dots` takes at most: a compile-time constant."""
    return types.intp(like), lambda context, builder, signature, args: I64(most_dots_of(like))


@intrinsic
def zero_row(typing, like):
    """Address of zeros for the widest tile."""

    def code(context, builder, signature, args):
        element = args[0].type
        array = constant_array(builder.module, "fastnn_zero_row", element, [0.0] * (WIDE * lanes_of(like)))
        return builder.ptrtoint(array, I64)

    return types.intp(like), code
