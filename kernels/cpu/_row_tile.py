"""One row times a matrix in the second-level cache, in aligned vectors: C = max(C + alpha · A · B, floor).

A vector that crosses a cache line costs two loads, and of rows of 50 elements most would. Rows of B that lie a period
apart begin at one place of a line: such a class of rows is added up by the whole vectors in which it lies, and of the
sums those between its first and last column are added to C. Period and order depend on the distance between rows and on
the depth alone, not on where B lies, nor on how columns are divided. (1, 50, 784): 2.0 → 1.45 µs, in float64 4.0 → 2.8.
"""

from numba import types
from numba.extending import intrinsic

from ._dtype import infinity_of, itemsize, lanes
from ._ir import I64, Vector, element_of, loop, new_function
from ._jit import jit
from ._simd import VECTORS

HAS_ROW_TILE = VECTORS.name == "avx512"  # where a vector is as long as a line
_CLASSES, _MOST_VECTORS = 2, 5  # at once: enough sums to keep the multiply-adds busy
_LEAST_PERIOD, _MOST_TURNS = 4, 128  # rows that are added up without a break: many, one after the other, lose digits


def _emit_row_tile(module, float_type, vectors):
    """The function of so many vectors; see `_row_tile`."""
    name = f"fastnn_row_tile_f{float_type.bitwidth}_{vectors}"
    if name in module.globals:
        return module.globals[name]
    function, builder = new_function(module, name, [I64] * 9 + [element_of(float_type)] * 2)
    v = Vector(builder, float_type)
    first, depth, period_bits, a, a_col, b, b_row, n, c, alpha, floor = function.args
    a, c, classes = v.pointer(a), v.pointer(c), range(_CLASSES)
    period = builder.shl(I64(1), period_bits)
    a_step, b_step = builder.mul(a_col, period), builder.mul(b_row, period)
    rows, bounds, places, turns = [], [], [], []
    for row in classes:
        at = builder.add(b, builder.mul(b_row, I64(row * v.bits // 8)))
        line = builder.and_(at, I64(-VECTORS.bytes))
        rows.append(v.at(v.pointer(line), builder.mul(first, I64(v.lanes))))
        begin = builder.sub(builder.udiv(builder.sub(at, line), I64(v.bits // 8)), builder.mul(first, I64(v.lanes)))
        end = builder.add(begin, n)
        bounds.append((begin, end))
        # A class may need a vector less than there are. The last one, which might lie in another page, is not touched.
        last = builder.and_(builder.sub(end, I64(1)), I64(-v.lanes))
        *others, most = [I64(j * v.lanes) for j in range(vectors)]
        places.append([*others, builder.select(builder.icmp_signed("<", last, most), last, most)])
        turns.append(builder.add(builder.ashr(builder.sub(depth, I64(row + 1)), period_bits), I64(1)))

    def add_rows(count):
        """One row of B for each of the first `count` classes."""

        def turn(_, values):
            a, rows, sums = values[0], values[1 : 1 + _CLASSES], values[1 + _CLASSES :]
            for row in range(count):
                a_vector = v.splat(builder.load(v.at(a, builder.mul(a_col, I64(row)))))
                for j in range(vectors):
                    b_vector = v.load(v.at(rows[row], places[row][j]))
                    sums[row * vectors + j] = v.multiply_add(a_vector, b_vector, sums[row * vectors + j])
            return [v.at(a, a_step), *(v.at(row, b_step) for row in rows), *sums]

        return turn

    values = [a, *rows, *[v.zero] * (_CLASSES * vectors)]
    values = loop(builder, I64(0), turns[1], 1, values, add_rows(2))
    values = loop(builder, turns[1], turns[0], 1, values, add_rows(1))
    sums, alpha, floor = values[1 + _CLASSES :], v.splat(alpha), v.splat(floor)
    for row, (begin, end) in enumerate(bounds):
        for j in range(vectors):
            place = v.at(c, builder.sub(I64(j * v.lanes), begin))
            mask = builder.and_(builder.not_(v.first_lanes(begin, j * v.lanes)), v.first_lanes(end, j * v.lanes))
            total = v.multiply_add(alpha, sums[row * vectors + j], v.load(place, mask))
            v.store(v.at_least(total, floor) if row == _CLASSES - 1 else total, place, mask)
    builder.ret_void()
    return function


@intrinsic
def _row_tile(typing, vectors, first, depth, period_bits, a, a_col, b, b_row, n, c, alpha, floor):
    """`vectors` of C (1.._MOST_VECTORS), from the aligned vector number `first` of the n columns on.

    Of the first _CLASSES of `depth` rows of B, and those a period after each.
    """

    def code(context, builder, signature, args):
        vectors, *args = args
        end = builder.append_basic_block("row_end")
        choice = builder.switch(vectors, end)
        for number in range(1, _MOST_VECTORS + 1):
            case = builder.append_basic_block("row_case")
            choice.add_case(I64(number), case)
            builder.position_at_end(case)
            builder.call(_emit_row_tile(builder.module, alpha, number), args)
            builder.branch(end)
        builder.position_at_end(end)
        return context.get_dummy_value()

    return types.void(*[types.intp] * 10, alpha, alpha), code


@jit
def row_product(n, depth, a, a_col, b, b_row, c, alpha, floor):
    """C (1, n) = max(C + alpha · A (1, depth) · B (depth, n), floor)."""
    size, vector, period_bits, widest = itemsize(alpha), lanes(alpha), 0, 0
    while 1 << period_bits < _LEAST_PERIOD or (b_row * size << period_bits) % VECTORS.bytes != 0:
        period_bits += 1
    classes = min(depth, 1 << period_bits)
    for k in range(classes):
        widest = max(widest, (b + k * b_row * size) % VECTORS.bytes // size + n)
    vectors = (widest + vector - 1) // vector
    panels = (vectors + _MOST_VECTORS - 1) // _MOST_VECTORS
    for k0 in range(0, depth, _MOST_TURNS << period_bits):
        k_end = min(depth, k0 + (_MOST_TURNS << period_bits))
        classes = min(classes, k_end - k0)
        for k in range(k0, k0 + classes, _CLASSES):
            a_k, b_k = a + k * a_col * size, b + k * b_row * size
            # A column may be of another panel in one class than in the other. So that each gets the sums of both in
            # the same order, the first class must not come later to it.
            backwards = b_k % VECTORS.bytes > (b_k + b_row * size) % VECTORS.bytes
            is_last = k_end == depth and k + _CLASSES >= k0 + classes
            for number in range(panels):
                panel = panels - 1 - number if backwards else number
                first = vectors * panel // panels
                _row_tile(
                    vectors * (panel + 1) // panels - first, first, k_end - k, period_bits, a_k, a_col, b_k, b_row,
                    n, c, alpha, floor if is_last else -infinity_of(alpha),
                )  # fmt: skip
