"""Register tiles of convolution, in LLVM IR: sums over places of an image that a table names.

    C[i, :] = max(sum_k a[i · a_row + terms[k, 0]] · b[terms[k, 1] + :] + start[i, :], floor)

One factor is the matrix of im2col: the address of an element is the sum of one that depends on its row and one that
depends on its column. So one tile serves the output (a: the image, pixels as rows; or b: the image, pixels in vectors;
k: channels and taps) and the gradient for the weights (a: the image, channels or taps as rows; k: pixels), whatever the
stride, padding and dilation. Otherwise as in _tile.py.
"""

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from ._image_plan import PIXEL_ROWS, PIXEL_VECTORS
from ._ir import I64, Vector, element_of, never_unroll, new_function, opaque
from ._jit import c_function, once
from ._simd import VECTORS

_ROWS_PER_BASE = 5
_SUMS_IN_FLIGHT = 8


def _emit_tile(module, float_type, rows, vectors, over_pixels):
    """The function of one tile; see `_tile` and `_tile_over_pixels`."""
    name = f"fastnn_image_tile_f{float_type.bitwidth}_{rows}x{vectors}{'_over_pixels' if over_pixels else ''}"
    if name in module.globals:
        return module.globals[name]
    integers = [I64] * (8 if over_pixels else 9)
    function, builder = new_function(module, name, [*integers, element_of(float_type)])
    v = Vector(builder, float_type)
    if over_pixels:
        depth, a, b, terms, c, c_row, start, pixels, floor = function.args
    else:
        depth, a, a_row, b, terms, c, c_row, start, start_row, floor = function.args
    a, b, c, start = (v.pointer(address) for address in (a, b, c, start))
    term = builder.inttoptr(terms, I64.as_pointer())
    if over_pixels:
        bases, multiples = [a], [I64(i) for i in range(rows)]
    else:
        bases = [opaque(builder, v.at(a, builder.mul(a_row, I64(i)))) for i in range(0, rows, _ROWS_PER_BASE)]
        multiples = [opaque(builder, builder.mul(a_row, I64(i))) for i in range(min(rows, _ROWS_PER_BASE))]

    def rank_one_update(term, sums):
        a_offset, b_offset = builder.load(term), builder.load(v.at(term, I64(1)))
        places, b_k = [v.at(base, a_offset) for base in bases], v.at(b, b_offset)
        b_vectors = [v.load(v.at(b_k, I64(j * v.lanes))) for j in range(vectors)]
        result = []
        for i in range(rows):
            builder.asm(ir.FunctionType(ir.VoidType(), []), "", "~{memory}", [], True)  # see _tile.py
            base, multiple = divmod(i, len(multiples))
            place = v.at(places[base], multiples[multiple]) if multiple else places[base]
            a_vector = v.splat(builder.load(place))
            result += [v.multiply_add(a_vector, b_vectors[j], sums[i * vectors + j]) for j in range(vectors)]
        return result

    def loop_over_terms(term, count, steps, sums):
        """Add `count` terms, `steps` a turn, each into its own share of `sums`."""
        before, end = builder.block, v.at(term, builder.mul(count, I64(2)))
        body, done = function.append_basic_block("terms"), function.append_basic_block("terms_done")
        builder.cbranch(builder.icmp_signed(">", count, I64(0)), body, done)
        builder.position_at_end(body)
        carried = []
        for value in [term, *sums]:
            phi = builder.phi(value.type)
            phi.add_incoming(value, before)
            carried.append(phi)
        next_term, *current = carried
        share = len(sums) // steps
        for n in range(steps):
            part = slice(n * share, (n + 1) * share)
            current[part] = rank_one_update(next_term, current[part])
            next_term = v.at(next_term, I64(2))
        for phi, value in zip(carried, [next_term, *current], strict=True):
            phi.add_incoming(value, builder.block)
        after = builder.block
        repeat = builder.cbranch(builder.icmp_unsigned("!=", next_term, end), body, done)
        repeat.set_metadata("llvm.loop", never_unroll(module))
        builder.position_at_end(done)
        results = []
        for unchanged, last in zip(sums, current, strict=True):
            phi = builder.phi(unchanged.type)
            phi.add_incoming(unchanged, before)
            phi.add_incoming(last, after)
            results.append(phi)
        return end, results

    # Few sums wait for each other: several terms a turn, each with sums of its own. (Over pixels as many for the last
    # vectors as for the others: which are the last depends on how rows are shared out.)
    size, steps = rows * vectors, 1
    while rows * (PIXEL_VECTORS if over_pixels else vectors) * steps < _SUMS_IN_FLIGHT and steps < 4:
        steps *= 2
    whole = builder.and_(depth, I64(-steps))
    term, sums = loop_over_terms(term, whole, steps, [v.zero] * (size * steps))
    while len(sums) > size:
        half = len(sums) // 2
        sums = [builder.fadd(x, y) for x, y in zip(sums[:half], sums[half:], strict=True)]
    if steps > 1:
        _, sums = loop_over_terms(term, builder.sub(depth, whole), 1, sums)
    if over_pixels:
        _store_planes(v, sums, rows, vectors, c, c_row, start, pixels, floor)
    else:
        _store_rows(v, sums, rows, vectors, c, c_row, start, start_row, floor)
    builder.ret_void()
    return function


def _store_rows(v, sums, rows, vectors, c, c_row, start, start_row, floor):
    builder, floor = v.builder, v.splat(floor)
    for i in range(rows):
        c_i, start_i = v.at(c, builder.mul(c_row, I64(i))), v.at(start, builder.mul(start_row, I64(i)))
        for j in range(vectors):
            x = builder.fadd(sums[i * vectors + j], v.load(v.at(start_i, I64(j * v.lanes))))
            v.store(v.at_least(x, floor), v.at(c_i, I64(j * v.lanes)))


def _store_planes(v, sums, rows, vectors, c, c_row, start, pixels, floor):
    builder, floor = v.builder, v.splat(floor)
    biases = [v.splat(builder.load(v.at(start, I64(i)))) for i in range(rows)]
    x = [v.at_least(builder.fadd(sum_, biases[n // vectors]), floor) for n, sum_ in enumerate(sums)]
    places = [(v.at(c, builder.mul(c_row, I64(i))), j) for i in range(rows) for j in range(vectors)]
    with builder.if_else(builder.icmp_signed(">=", pixels, I64(vectors * v.lanes))) as (whole, part):
        with whole:
            for value, (row, j) in zip(x, places, strict=True):
                v.store(value, v.at(row, I64(j * v.lanes)))
        with part:
            masks = [v.first_lanes(pixels, j * v.lanes) for j in range(vectors)]
            for value, (row, j) in zip(x, places, strict=True):
                v.store(value, v.at(row, I64(j * v.lanes)), masks[j])


def _choice_of(heights, over_pixels):
    """Make an intrinsic (rows, vectors, operands of the tile): for each number of vectors, from 1 on, its most rows."""
    highest = max(heights)

    @intrinsic
    def tile(typing, *args):
        signature = types.void(types.StarArgTuple.from_types(args))
        floor = args[-1]

        def code(context, builder, signature, args):
            rows, vectors, *operands = cgutils.unpack_tuple(builder, args[0], len(signature.args[0]))
            end = builder.append_basic_block("tile_end")
            choice = builder.switch(builder.add(rows, builder.mul(vectors, I64(highest))), end)
            for width, most in enumerate(heights, start=1):
                for height in range(1, most + 1):
                    case = builder.append_basic_block("tile_case")
                    choice.add_case(I64(width * highest + height), case)
                    builder.position_at_end(case)
                    builder.call(_emit_tile(builder.module, floor, height, width, over_pixels), operands)
                    builder.branch(end)
            builder.position_at_end(end)
            return context.get_dummy_value()

        return signature, code

    return tile


_choose = _choice_of((VECTORS.tile_sums, VECTORS.tile_sums // 2), over_pixels=False)
_choose_over_pixels = _choice_of((PIXEL_ROWS,) * PIXEL_VECTORS, over_pixels=True)


def _tile(rows, vectors, depth, a, a_row, b, terms, c, c_row, start, start_row, floor):
    """One tile of `rows` by `vectors` (1 or 2): up to VECTORS.tile_sums rows of one, or half as many of two.

    depth: the number of terms. a, b, terms, c, start: addresses. terms: pairs of int64, which like a_row, c_row and
    start_row count elements.
    """
    _choose(rows, vectors, depth, a, a_row, b, terms, c, c_row, start, start_row, floor)


def _tile_over_pixels(rows, vectors, depth, a, b, terms, c, c_row, start, pixels, floor):
    """One tile of up to PIXEL_ROWS filters by up to PIXEL_VECTORS vectors of pixels, of which `pixels` are stored.

    The rows of a are adjacent elements; start: one element a row.
    """
    _choose_over_pixels(rows, vectors, depth, a, b, terms, c, c_row, start, pixels, floor)


@once
def compiled_image_tile(dtype, over_pixels=False):
    """A tile compiled for a dtype; its ``address`` is what kernels call."""
    real = {"f": types.float32, "d": types.float64}[np.dtype(dtype).char]
    if over_pixels:
        return c_function(types.void(*[types.intp] * 10, real), _tile_over_pixels)
    return c_function(types.void(*[types.intp] * 11, real), _tile)


@intrinsic
def as_pointer(typing, address):
    """An address as what `numba.carray` takes."""
    return types.voidptr(types.intp), lambda context, builder, signature, args: builder.inttoptr(
        args[0], cgutils.voidptr_t
    )


@intrinsic
def copy_block(typing, to, to_row, source, source_row, rows, first, end, count, like):
    """to[r, j] = source[r, j] where first <= j < end, else 0; for 0 <= r < rows, 0 <= j < count.

    Nothing else is read or written. Rows, whose elements are adjacent, begin to_row and source_row elements apart.
    """

    def code(context, builder, signature, args):
        to, to_row, source, source_row, rows, first, end, count, _ = args
        v = Vector(builder, like)
        to, source = v.pointer(to), v.pointer(source)
        with cgutils.for_range_slice(builder, I64(0), count, I64(v.lanes), intp=I64) as (j, _):
            before_end, before_first = (v.first_lanes(builder.sub(bound, j)) for bound in (end, first))
            read, written = builder.and_(before_end, builder.not_(before_first)), v.first_lanes(builder.sub(count, j))
            to_j, source_j = v.at(to, j), v.at(source, j)
            with cgutils.for_range(builder, rows, intp=I64) as loop:
                value = v.load(v.at(source_j, builder.mul(source_row, loop.index)), read)
                v.store(value, v.at(to_j, builder.mul(to_row, loop.index)), written)
        return context.get_dummy_value()

    return types.void(*[types.intp] * 8, like), code
