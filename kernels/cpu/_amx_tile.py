"""Tiles of Intel's matrix unit (AMX), in LLVM IR: float32 cut into bfloat16, and products of these. See _amx.py.

A tile is 1 KB of a register, 16 rows of 64 bytes. The unit multiplies 16 rows of 32 bfloat16 by 16 columns of as many,
whose elements it wants pair by pair, and adds the products to 16 rows of 16 float32: 8,192 multiply-adds in 16 cycles
(Intel 64 and IA-32 Architectures Software Developer's Manual, TDPBF16PS). It takes numbers below 2^-126 for 0. What
pairs are does not matter, if it is the same for both operands: here elements 16 apart, which two vectors have at the
same place.
"""

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from ._ir import BYTE_POINTER, I1, I8, I32, I64, Vector, constant_array, loop, new_function

EDGE = 16  # rows, and columns, of a tile of the output
STEP = 32  # of depth: a tile of an operand
PART_BYTES = 1024  # a tile
MOST_TILES = 3  # of columns, that are multiplied at once
PARTS = 3  # bfloat16 that a float32 is the sum of: 8 of its 24 digits each
STEP_BYTES = PARTS * PART_BYTES
NOT_FINITE = 0x7F800000  # bits of infinity; of NaN more

_FLOAT = types.float32
_LEADING = 0xFFFF0000  # the bits of a float32 that a bfloat16 has
_ROW_BYTES = 64


def _emit(builder, name, *args):
    """Call the instruction `name` of the unit. Numbers of tile registers are 8 bits wide, all else is not."""
    function = ir.FunctionType(ir.VoidType(), [arg.type for arg in args])
    builder.call(cgutils.get_or_insert_function(builder.module, function, f"llvm.x86.{name}"), args)


def _tile_number(n):
    return I8(n)


def _pointer(builder, address):
    return builder.inttoptr(address, BYTE_POINTER)


@intrinsic
def configure(typing):
    """Take the unit for this thread: eight tiles of 16 rows of 64 bytes. `release` must follow."""

    def code(context, builder, signature, args):
        palette, row_bytes, rows = [1] + [0] * 15, [_ROW_BYTES, 0] * 8 + [0] * 16, [EDGE] * 8 + [0] * 8
        settings = constant_array(builder.module, "fastnn_amx_settings", I8, palette + row_bytes + rows)
        _emit(builder, "ldtilecfg", builder.bitcast(settings, BYTE_POINTER))
        return context.get_dummy_value()

    return types.void(), code


@intrinsic
def release(typing):
    """Leave the unit, so that the operating system need not keep what is in it."""

    def code(context, builder, signature, args):
        _emit(builder, "tilerelease")
        return context.get_dummy_value()

    return types.void(), code


class _Split(Vector):
    """Vectors of float32 by their bits, 16 words of 32."""

    def __init__(self, builder):
        super().__init__(builder, _FLOAT)
        self.words = ir.VectorType(I32, self.lanes)

    def constant(self, value):
        return ir.Constant(self.words, [value] * self.lanes)

    def leading(self, bits):
        return self.builder.and_(bits, self.constant(_LEADING))

    def rest(self, bits):
        """Of a number without its leading part, exactly."""
        x, leading = (self.builder.bitcast(b, self.type) for b in (bits, self.leading(bits)))
        return self.builder.bitcast(self.builder.fsub(x, leading), self.words)

    def larger(self, x, y):
        return self.builder.select(self.builder.icmp_unsigned(">", x, y), x, y)

    def read(self, pointer, mask=None):
        return self.builder.bitcast(self.load(pointer, mask), self.words)

    def size(self, bits):
        return self.builder.and_(bits, self.constant(0x7FFFFFFF))

    def put(self, first, second, to):
        """The parts of two vectors, each number's before that of its like in the other one, as a row of each tile."""
        for part in range(PARTS):
            pairs = self.builder.or_(self.builder.lshr(first, self.constant(16)), self.leading(second))
            row = self.builder.add(to, I64(part * PART_BYTES))
            self.builder.store(pairs, self.builder.inttoptr(row, self.words.as_pointer())).align = _ROW_BYTES
            first, second = self.rest(first), self.rest(second)


def _emit_split(module, in_pairs):
    name = f"fastnn_amx_split{'_pairs' if in_pairs else '_rows'}"
    if name in module.globals:
        return module.globals[name]
    function, builder = new_function(module, name, [I64] * 6, I64)
    to, x, x_row, rows, columns, limit = function.args
    v = _Split(builder)
    x, limit, none = v.pointer(x), v.splat(builder.trunc(limit, I32)), ir.Constant(ir.VectorType(I1, v.lanes), None)

    def vector_of(row, offset, largest):
        exists = builder.icmp_signed("<", row, rows)
        mask = builder.select(exists, v.first_lanes(columns, offset), none)
        bits = v.read(v.at(x, builder.add(builder.mul(row, x_row), I64(offset))), mask)
        counts = builder.icmp_unsigned("<", v.size(bits), limit)
        return builder.select(counts, bits, v.constant(0)), v.larger(largest, v.size(bits))

    def line(number, values):
        (largest,) = values
        first, largest = vector_of(number, 0, largest)
        if in_pairs:  # two rows of x, for 16 columns
            second, largest = vector_of(builder.add(number, I64(EDGE)), 0, largest)
        else:
            second, largest = vector_of(number, v.lanes, largest)
        v.put(first, second, builder.add(to, builder.mul(number, I64(_ROW_BYTES))))
        return [largest]

    (largest,) = loop(builder, I64(0), I64(EDGE), 1, [v.constant(0)], line)
    builder.ret(builder.zext(v.fold(largest, v.larger), I64))
    return function


def _split(in_pairs):
    """Make split(to, x, x_row, rows, columns, limit): cut float32 into three tiles of bfloat16; zeros fill them up.

    Each is what the one before leaves of the numbers. Not in pairs: up to 16 rows of up to 32 numbers that are
    adjacent. In pairs: up to 32 rows of up to 16. to: a multiple of 64. x: the first row's address; x_row: elements
    from row to row. Numbers whose bits, without their sign, are at least `limit` count as 0. Returns the largest such
    bits there were.
    """

    @intrinsic
    def split(typing, to, x, x_row, rows, columns, limit):
        def code(context, builder, signature, args):
            return builder.call(_emit_split(builder.module, in_pairs), args)

        return types.intp(*[types.intp] * 6), code

    return split


split_rows, split_pairs = _split(False), _split(True)

# Pairs of parts, A's and B's, of finite numbers, whose products are summed before those of leading parts: small ones
# first, and from one to the next one operand changes.
_PAIRS = ((0, 2), (0, 1), (1, 1), (1, 0), (2, 0))


def _emit_multiply(module, rows, columns):
    name = f"fastnn_amx_{rows}x{columns}"
    if name in module.globals:
        return module.globals[name]
    function, builder = new_function(module, name, [I64] * 10)
    steps, *operands, to = function.args
    sums = [(i, j, _tile_number(i * columns + j)) for i in range(rows) for j in range(columns)]
    a_tiles, b_tiles = [_tile_number(4 + i) for i in range(rows)], [_tile_number(6 + j) for j in range(columns)]

    def step(k, places):
        a, a_finite, b, b_finite = (places[i : i + 2] for i in range(0, 8, 2))

        def load(tiles, places, part):
            for tile, place in zip(tiles, places, strict=False):
                place = _pointer(builder, builder.add(place, I64(part * PART_BYTES)))
                _emit(builder, "tileloadd64", tile, place, I64(_ROW_BYTES))

        def add_products():
            for i, j, tile in sums:
                _emit(builder, "tdpbf16ps", tile, a_tiles[i], b_tiles[j])

        in_a, in_b = None, None
        for a_part, b_part in _PAIRS:
            if a_part != in_a:
                load(a_tiles, a_finite, a_part)
            if b_part != in_b:
                load(b_tiles, b_finite, b_part)
            in_a, in_b = a_part, b_part
            add_products()
        load(a_tiles, a, 0)
        load(b_tiles, b, 0)
        add_products()
        return [builder.add(place, I64(STEP_BYTES)) for place in places]

    for _, _, tile in sums:
        _emit(builder, "tilezero", tile)
    loop(builder, I64(0), steps, 1, operands, step)
    _emit_store(builder, sums, to)
    builder.ret_void()
    return function


def _emit_store(builder, sums, to):
    for i, j, tile in sums:
        place = builder.add(to, I64((i * EDGE * MOST_TILES + j) * _ROW_BYTES))
        _emit(builder, "tilestored64", tile, _pointer(builder, place), I64(MOST_TILES * _ROW_BYTES))


def _emit_multiply_rows(module, columns):
    name = f"fastnn_amx_rows_{columns}"
    if name in module.globals:
        return module.globals[name]
    function, builder = new_function(module, name, [I64] * 11, I64)
    steps, depth, x, x_row, a_0, a_1, a_turn, spare, b, b_tile, to = function.args
    v = _Split(builder)
    a_register, b_register = _tile_number(2 * columns), _tile_number(2 * columns + 1)
    sums = [(i, j, _tile_number(i * columns + j)) for i in range(2) for j in range(columns)]

    ahead = builder.mul(x_row, I64(2 * EDGE))

    def cut(row, masks, to):
        first, second = (v.read(v.at(row, I64(i * EDGE)), mask) for i, mask in enumerate(masks))
        v.put(first, second, to)
        for i in range(2):  # of the next 32 rows; without, 10,000 x 784 from memory: 5.1 instead of 3.7 ms
            v.prefetch(v.at(v.at(row, ahead), I64(i * EDGE)), level=2)

    def masks_of(left):
        return [v.first_lanes(left, offset) for offset in (0, EDGE)]

    def step(k, values):
        x, left, *places, b = values
        a, next_a = places[:2], places[2:]
        next_x, next_left = v.at(x, I64(STEP)), builder.sub(left, I64(STEP))
        is_last = builder.icmp_signed("==", builder.add(k, I64(1)), steps)
        masks, to = masks_of(next_left), [builder.select(is_last, spare, place) for place in next_a]
        row, rows, turns = next_x, 0, 0
        for i in range(2):
            in_a = None
            for a_part, b_part in (*_PAIRS, (0, 0)):
                if a_part != in_a:
                    place = builder.add(a[i], I64(a_part * PART_BYTES))
                    _emit(builder, "tileloadd64", a_register, _pointer(builder, place), I64(_ROW_BYTES))
                in_a = a_part
                for j in range(columns):
                    place = builder.add(b, builder.add(builder.mul(b_tile, I64(j)), I64(b_part * PART_BYTES)))
                    _emit(builder, "tileloadd64", b_register, _pointer(builder, place), I64(_ROW_BYTES))
                    _emit(builder, "tdpbf16ps", _tile_number(i * columns + j), a_register, b_register)
                    turns += 1
                    while rows * 12 * columns < turns * 2 * EDGE:
                        cut(row, masks, builder.add(to[rows // EDGE], I64(rows % EDGE * _ROW_BYTES)))
                        row, rows = v.at(row, x_row), rows + 1
        after = [builder.add(place, a_turn) for place in a]
        return [next_x, next_left, *next_a, *after, builder.add(b, I64(STEP_BYTES))]

    x, masks = v.pointer(x), masks_of(depth)
    for i, place in enumerate((a_0, a_1)):
        first = v.at(x, builder.mul(x_row, I64(i * EDGE)))

        def cut_first(_, values):
            row, to = values
            cut(row, masks, to)
            return [v.at(row, x_row), builder.add(to, I64(_ROW_BYTES))]

        loop(builder, I64(0), I64(EDGE), 1, [first, place], cut_first)
    for _, _, tile in sums:
        _emit(builder, "tilezero", tile)
    places = [builder.add(place, I64(at)) for at in (0, STEP_BYTES) for place in (a_0, a_1)]
    loop(builder, I64(0), steps, 1, [x, depth, *places, b], step)
    _emit_store(builder, sums, to)

    def row_of_sums(number, values):
        row = v.at(v.pointer(to), builder.mul(number, I64(MOST_TILES * EDGE)))
        for j in range(columns):
            values = [v.larger(values[0], v.size(v.read(v.at(row, I64(j * EDGE)))))]
        return values

    (largest,) = loop(builder, I64(0), I64(2 * EDGE), 1, [v.constant(0)], row_of_sums)
    builder.ret(builder.zext(v.fold(largest, v.larger), I64))
    return function


@intrinsic
def multiply_rows(typing, columns, steps, depth, x, x_row, a_0, a_1, a_turn, spare, b, b_tile, to):
    """A · B of 32 rows x by two tiles of columns, or three, to rows of 48 float32: as `multiply`, to the bit.

    The rows, which `depth` elements are read of, are cut on the way, while the unit is busy: to a_0 and a_1, as `split`
    leaves them, and to memory of a tile's step that is `spare`. a_turn: bytes from a step to the next but one, 0 where
    nobody needs them later. b_tile: bytes from a tile of columns to the next one. Returns the largest bits of a sum.
    Where they are not finite, the sums may be wrong: small parts of infinity are NaN.
    """

    def code(context, builder, signature, args):
        columns, *operands = args
        two, three = (_emit_multiply_rows(builder.module, width) for width in (2, 3))
        function = builder.select(builder.icmp_signed("==", columns, I64(2)), two, three)
        return builder.call(function, operands)

    return types.intp(*[types.intp] * 12), code


@intrinsic
def multiply(typing, rows, columns, steps, a_0, a_1, a_finite_0, a_finite_1, b_0, b_1, b_finite_0, b_finite_1, to):
    """A · B of one or two tiles of rows by one or two tiles of columns, to rows of 48 float32.

    steps: of depth. a_0 ... b_finite_1: addresses of what `split` leaves, one tile's steps of depth after each other.
    Those of what is finite: the same, or, where there are NaN or infinity, split with these as 0. Of the others only
    leading parts are multiplied, by each other: infinity has none but that.
    """

    def code(context, builder, signature, args):
        rows, columns, *operands = args
        end = builder.append_basic_block("amx_end")
        choice = builder.switch(builder.add(builder.mul(rows, I64(2)), columns), end)
        for height in (1, 2):
            for width in (1, 2):
                case = builder.append_basic_block("amx_case")
                choice.add_case(I64(2 * height + width), case)
                builder.position_at_end(case)
                builder.call(_emit_multiply(builder.module, height, width), operands)
                builder.branch(end)
        builder.position_at_end(end)
        return context.get_dummy_value()

    return types.void(*[types.intp] * 12), code


@intrinsic
def finish(typing, c, c_row, sums, start, start_row, rows, columns, floor):
    """C = max(sums + start, floor), of up to 48 columns; sums: as `multiply` leaves them."""

    def code(context, builder, signature, args):
        c, c_row, sums, start, start_row, rows, columns, floor = args
        v = Vector(builder, _FLOAT)
        c, sums, start, floor = v.pointer(c), v.pointer(sums), v.pointer(start), v.splat(floor)
        tiles = builder.sdiv(builder.add(columns, I64(EDGE - 1)), I64(EDGE))
        strides = (c, c_row), (start, start_row), (sums, I64(MOST_TILES * EDGE))
        with cgutils.for_range(builder, tiles, intp=I64) as tile:
            offset = builder.mul(tile.index, I64(EDGE))
            mask = v.first_lanes(builder.sub(columns, offset))
            with cgutils.for_range(builder, rows, intp=I64) as loop:
                to, from_, sum_ = (
                    v.at(matrix, builder.add(offset, builder.mul(loop.index, row))) for matrix, row in strides
                )
                x = builder.fadd(v.load(sum_), v.load(from_, mask))
                v.store(v.at_least(x, floor), to, mask)
        return context.get_dummy_value()

    return types.void(*[types.intp] * 7, floor), code
