"""Register tiles of convolution, in LLVM IR: sums over places of an image that a table names.

    C[i, :] = max(sum_k image[i · step + offsets[k]] · B[k, :] + start[i, :], floor)

As a matrix the first factor is that of im2col: an element's address is the sum of one that depends on its row and one
that depends on its column. So one tile serves the output (rows: pixels; k: channels and taps) and the gradient for the
weights (rows: channels, or taps; k: pixels), whatever the stride, padding and dilation. Otherwise as in _tile.py.
"""

import functools

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from ._jit import c_function
from ._tile import _I64, TILE_ROWS, _int, _never_unroll, _opaque, _Vector

_ROWS_PER_BASE = 5
_SUMS_IN_FLIGHT = 8


def _emit_tile(module, float_type, rows, vectors):
    """The function of one tile; see `image_tile`."""
    name = f"fastnn_image_tile_f{float_type.bitwidth}_{rows}x{vectors}"
    if name in module.globals:
        return module.globals[name]
    builder = ir.IRBuilder()
    v = _Vector(builder, float_type)
    function = ir.Function(module, ir.FunctionType(ir.VoidType(), [_I64] * 8 + [v.element]), name)
    function.linkage = "internal"
    function.attributes.add("noinline")
    builder.position_at_end(function.append_basic_block("entry"))
    depth, image, step, offsets, b, c, start, start_row, floor = function.args
    image, b, c, start = (v.pointer(address) for address in (image, b, c, start))
    offsets = builder.inttoptr(offsets, _I64.as_pointer())
    bases = [_opaque(builder, v.at(image, builder.mul(step, _int(i)))) for i in range(0, rows, _ROWS_PER_BASE)]
    multiples = [_opaque(builder, builder.mul(step, _int(i))) for i in range(min(rows, _ROWS_PER_BASE))]
    width = vectors * v.lanes

    def rank_one_update(k, b, sums):
        offset = builder.load(v.at(offsets, k))
        places = [v.at(base, offset) for base in bases]
        b_vectors = [v.load(v.at(b, _int(j * v.lanes))) for j in range(vectors)]
        result = []
        for i in range(rows):
            builder.asm(ir.FunctionType(ir.VoidType(), []), "", "~{memory}", [], True)  # see _tile.py
            place = places[i // _ROWS_PER_BASE]
            pixel = v.splat(builder.load(v.at(place, multiples[i % _ROWS_PER_BASE]) if i % _ROWS_PER_BASE else place))
            result += [v.multiply_add(pixel, b_vectors[j], sums[i * vectors + j]) for j in range(vectors)]
        return result

    def loop_over_k(first, end, b, steps, sums):
        """Add the terms first..end, `steps` a turn, each into its own share of `sums`."""
        before = builder.block
        body, done = function.append_basic_block("k"), function.append_basic_block("k_done")
        builder.cbranch(builder.icmp_signed("<", first, end), body, done)
        builder.position_at_end(body)
        carried = []
        for value in [first, b, *sums]:
            phi = builder.phi(value.type)
            phi.add_incoming(value, before)
            carried.append(phi)
        k, b_k, *current = carried
        share = len(sums) // steps
        for n in range(steps):
            part = slice(n * share, (n + 1) * share)
            current[part] = rank_one_update(builder.add(k, _int(n)), b_k, current[part])
            b_k = v.at(b_k, _int(width))
        k_next = builder.add(k, _int(steps))
        for phi, value in zip(carried, [k_next, b_k, *current], strict=True):
            phi.add_incoming(value, builder.block)
        after = builder.block
        repeat = builder.cbranch(builder.icmp_signed("<", k_next, end), body, done)
        repeat.set_metadata("llvm.loop", _never_unroll(module))
        builder.position_at_end(done)
        results = []
        for unchanged, last in zip([b, *sums], [b_k, *current], strict=True):
            phi = builder.phi(unchanged.type)
            phi.add_incoming(unchanged, before)
            phi.add_incoming(last, after)
            results.append(phi)
        return results[0], results[1:]

    size, steps = rows * vectors, 1
    while size * steps < _SUMS_IN_FLIGHT and steps < 4:
        steps *= 2
    sums = [v.zero] * (size * steps)
    whole = builder.and_(depth, _int(-steps))
    b, sums = loop_over_k(_int(0), whole, b, steps, sums)
    while len(sums) > size:
        half = len(sums) // 2
        sums = [builder.fadd(x, y) for x, y in zip(sums[:half], sums[half:], strict=True)]
    if steps > 1:
        _, sums = loop_over_k(whole, depth, b, 1, sums)
    floor = v.splat(floor)
    for i in range(rows):
        start_i = v.at(start, builder.mul(start_row, _int(i)))
        for j in range(vectors):
            x = builder.fadd(sums[i * vectors + j], v.load(v.at(start_i, _int(j * v.lanes))))
            v.store(v.at_least(x, floor), v.at(c, _int((i * vectors + j) * v.lanes)))
    builder.ret_void()
    return function


@intrinsic
def _image_tile(typing, rows, vectors, depth, image, step, offsets, b, c, start, start_row, floor):
    def code(context, builder, signature, args):
        rows, vectors, *operands = args
        end = builder.append_basic_block("tile_end")
        choice = builder.switch(builder.add(rows, builder.mul(vectors, _int(TILE_ROWS))), end)
        for width in (1, 2):
            for height in range(1, TILE_ROWS + 1):
                case = builder.append_basic_block("tile_case")
                choice.add_case(_int(width * TILE_ROWS + height), case)
                builder.position_at_end(case)
                builder.call(_emit_tile(builder.module, floor, height, width), operands)
                builder.branch(end)
        builder.position_at_end(end)
        return context.get_dummy_value()

    return types.void(*[types.intp] * 10, floor), code


def _tile(rows, vectors, depth, image, step, offsets, b, c, start, start_row, floor):
    """One tile of `rows` (1..TILE_ROWS) by `vectors` (1 or 2).

    depth: the length of the sum. image, offsets, b, c, start: addresses; the rows of B and C lie one after the other,
    those of `start` start_row elements apart. step, offsets: in elements.
    """
    _image_tile(rows, vectors, depth, image, step, offsets, b, c, start, start_row, floor)


@functools.cache
def compiled_image_tile(dtype):
    """`_tile` compiled for a dtype; its ``address`` is what kernels call. (Cached: it must outlive its callers.)"""
    real = {"f": types.float32, "d": types.float64}[np.dtype(dtype).char]
    return c_function(types.void(*[types.intp] * 10, real), _tile)


@intrinsic
def copy_row(typing, to, source, first, end, count, like):
    """to[j] = source[j] where first <= j < end, else 0, for 0 <= j < count. Nothing else is read or written."""

    def code(context, builder, signature, args):
        to, source, first, end, count, _ = args
        v = _Vector(builder, like)
        to, source = v.pointer(to), v.pointer(source)
        with cgutils.for_range_slice(builder, _int(0), count, _int(v.lanes), intp=_I64) as (j, _):
            before_end, before_first = (v.first_lanes(builder.sub(bound, j)) for bound in (end, first))
            mask = builder.and_(before_end, builder.not_(before_first))
            v.store(v.load(v.at(source, j), mask), v.at(to, j), v.first_lanes(builder.sub(count, j)))
        return context.get_dummy_value()

    return types.void(*[types.intp] * 5, like), code
