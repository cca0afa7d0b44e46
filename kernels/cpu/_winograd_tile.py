"""The transforms of Winograd's convolution, F(2x2, 3x3), as vectors over tiles, in LLVM IR.

A tile d of 4 x 4 pixels becomes Bᵀ d B; sums m of such tiles, times filters, become the 2 x 2 outputs Aᵀ m A:

    Bᵀ = 1  0 -1  0       Aᵀ = 1  1  1  0
         0  1  1  0            0  1 -1 -1
         0 -1  1  0
         0  1  0 -1

Tiles begin two pixels apart, so that vectors hold every other pixel: loads and stores of those are two and an exchange.
"""

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from ._image_plan import PIXEL_ROWS, PIXEL_VECTORS
from ._ir import I32, I64, Vector


def _shuffled(v, x, y, order):
    return v.builder.shuffle_vector(x, y, ir.Constant(ir.VectorType(I32, v.lanes), order))


def _four(v, d0, d1, d2, d3):
    """Bᵀ d, along one axis."""
    builder = v.builder
    return builder.fsub(d0, d2), builder.fadd(d1, d2), builder.fsub(d2, d1), builder.fsub(d1, d3)


def _two(v, m0, m1, m2, m3):
    """Aᵀ m, along one axis."""
    builder = v.builder
    return builder.fadd(builder.fadd(m0, m1), m2), builder.fsub(builder.fsub(m1, m2), m3)


@intrinsic
def transform_rows(typing, to, plane, image, width, height, y, rows, first, end, tiles, like):
    """d B for `rows` rows of `tiles` tiles: elements (k, s) of tile (i, j) to to[(4 s + k) · plane + i · tiles + j].

    The first tile's pixels begin in row y of an image, whose row 0 has those of column j at image + 2 j + (0 .. 3);
    in rows outside of its height, and before `first` and from `end` on, pixels are 0, and not read.
    """

    def code(context, builder, signature, args):
        to, plane, image, width, height, y, rows, first, end, tiles, _ = args
        v = Vector(builder, like)
        to, image = v.pointer(to), v.pointer(image)
        even, odd = ([2 * lane + k for lane in range(v.lanes)] for k in range(2))
        planes = [builder.mul(plane, I64(4 * s)) for s in range(4)]
        to_lower = builder.sub(builder.mul(plane, I64(2)), tiles)
        with cgutils.for_range_slice(builder, I64(0), tiles, I64(v.lanes), intp=I64) as (j, _):
            pixel, written = builder.mul(j, I64(2)), v.first_lanes(builder.sub(tiles, j))
            places = [builder.add(pixel, I64(offset)) for offset in (0, v.lanes, 2, v.lanes + 2)]
            masks = []
            for place in places:
                before_end, before_first = (v.first_lanes(builder.sub(bound, place)) for bound in (end, first))
                masks.append(builder.and_(before_end, builder.not_(before_first)))
            with cgutils.for_range(builder, builder.mul(builder.add(rows, I64(1)), I64(2)), intp=I64) as loop:
                number = builder.add(y, loop.index)
                inside = v.splat(builder.icmp_unsigned("<", number, height))
                row = v.at(image, builder.mul(number, width))
                pixels = [
                    v.load(v.at(row, place), builder.and_(mask, inside))
                    for place, mask in zip(places, masks, strict=True)
                ]
                d = [_shuffled(v, *pair, order) for pair in (pixels[:2], pixels[2:]) for order in (even, odd)]
                values = _four(v, *d)
                i, k = builder.lshr(loop.index, I64(1)), builder.and_(loop.index, I64(1))
                upper = v.at(v.at(to, builder.mul(plane, k)), builder.add(builder.mul(i, tiles), j))
                for exists, place in (
                    (builder.icmp_signed("<", i, rows), upper),  # the first or second row of a tile's pixels,
                    (builder.icmp_signed(">", i, I64(0)), v.at(upper, to_lower)),  # third or fourth of the one above
                ):
                    with builder.if_then(exists):
                        for value, offset in zip(values, planes, strict=True):
                            v.store(value, v.at(place, offset), written)
        return context.get_dummy_value()

    return types.void(*[types.intp] * 10, like), code


@intrinsic
def transform_columns(typing, to, to_plane, source, plane, tiles, like):
    """Bᵀ (d B): of tile t the elements (r, s) to to[(4 r + s) · to_plane + t], from source[(4 s + k) · plane + t].

    It reads and writes whole vectors.
    """

    def code(context, builder, signature, args):
        to, to_plane, source, plane, tiles, _ = args
        v = Vector(builder, like)
        to, source = v.pointer(to), v.pointer(source)
        rows = [builder.mul(plane, I64(k)) for k in range(4)]
        planes = [builder.mul(to_plane, I64(4 * r)) for r in range(4)]
        with cgutils.for_range(builder, I64(4), intp=I64) as loop:
            source_s = v.at(source, builder.mul(loop.index, builder.mul(plane, I64(4))))
            to_s = v.at(to, builder.mul(to_plane, loop.index))
            with cgutils.for_range_slice(builder, I64(0), tiles, I64(v.lanes), intp=I64) as (t, _):
                d = [v.load(v.at(v.at(source_s, row), t)) for row in rows]
                for value, plane_r in zip(_four(v, *d), planes, strict=True):
                    v.store(value, v.at(v.at(to_s, plane_r), t))
        return context.get_dummy_value()

    return types.void(*[types.intp] * 5, like), code


@intrinsic
def transform_sums(typing, to, to_odd, to_row, source, rows, vectors, like):
    """Aᵀ m A for `rows` filters by `vectors` of tiles: pixels of a tile's first row to `to`, of its second to_odd on.

    source: 16 planes of PIXEL_ROWS by PIXEL_VECTORS vectors.
    """

    def code(context, builder, signature, args):
        to, to_odd, to_row, source, rows, vectors, _ = args
        v = Vector(builder, like)
        to, source = v.pointer(to), v.pointer(source)
        width = PIXEL_VECTORS * v.lanes
        halves = [[half * v.lanes // 2 + n // 2 + n % 2 * v.lanes for n in range(v.lanes)] for half in range(2)]
        loops = cgutils.for_range(builder, rows, intp=I64), cgutils.for_range(builder, vectors, intp=I64)
        with loops[0] as row, loops[1] as vector:
            tile = builder.mul(vector.index, I64(v.lanes))
            place = v.at(v.at(source, builder.mul(row.index, I64(width))), tile)
            columns = []
            for s in range(4):
                m = [v.load(v.at(place, I64((4 * r + s) * PIXEL_ROWS * width))) for r in range(4)]
                columns.append(_two(v, *m))
            to_pixels = v.at(v.at(to, builder.mul(to_row, row.index)), builder.mul(tile, I64(2)))
            for r in range(2):
                pixels = _two(v, *(column[r] for column in columns))
                place = v.at(to_pixels, to_odd) if r else to_pixels
                for half in range(2):
                    v.store(_shuffled(v, *pixels, halves[half]), v.at(place, I64(half * v.lanes)))
        return context.get_dummy_value()

    return types.void(*[types.intp] * 6, like), code


@intrinsic
def store_rows(typing, to, to_row, source, source_row, rows, columns, check, like):
    """to[r, j] = max(source[r, j], floor), and the vector at `check` gets NaN where source is not finite.

    like: the floor.
    """

    def code(context, builder, signature, args):
        to, to_row, source, source_row, rows, columns, check, floor = args
        v = Vector(builder, like)
        to, source, check, floor = v.pointer(to), v.pointer(source), v.pointer(check), v.splat(floor)
        checked = cgutils.alloca_once_value(builder, v.load(check))
        with cgutils.for_range_slice(builder, I64(0), columns, I64(v.lanes), intp=I64) as (j, _):
            mask = v.first_lanes(builder.sub(columns, j))
            to_j, source_j = v.at(to, j), v.at(source, j)
            with cgutils.for_range(builder, rows, intp=I64) as loop:
                x = v.load(v.at(source_j, builder.mul(source_row, loop.index)), mask)
                builder.store(v.multiply_add(x, v.zero, builder.load(checked)), checked)
                v.store(v.at_least(x, floor), v.at(to_j, builder.mul(to_row, loop.index)), mask)
        v.store(builder.load(checked), check)
        return context.get_dummy_value()

    return types.void(*[types.intp] * 7, like), code
