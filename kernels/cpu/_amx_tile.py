"""Tiles of Intel's matrix unit (AMX), in LLVM IR: float32 cut into bfloat16, and products of these. See _amx.py.

A tile is 1 KB of a register, 16 rows of 64 bytes. The unit multiplies 16 rows of 32 bfloat16 by 16 columns of as many,
whose elements it wants pair by pair (`split` with in_pairs), and adds the products to 16 rows of 16 float32: 8,192
multiply-adds in 16 cycles (Intel 64 and IA-32 Architectures Software Developer's Manual, TDPBF16PS). It takes numbers
below 2^-126 for 0.
"""

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from ._ir import BYTE_POINTER, I1, I8, I16, I32, I64, Vector, constant_array, loop, new_function

EDGE = 16  # rows, and columns, of a tile of the output
STEP = 32  # of depth: a tile of an operand
PART_BYTES = 1024  # a tile
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

    def __init__(self, builder, limit):
        super().__init__(builder, _FLOAT)
        self.words = ir.VectorType(I32, self.lanes)
        self.limit = self.splat(builder.trunc(limit, I32))

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

    def read(self, pointer, mask, largest):
        """The bits of numbers, 0 for those from `limit` on; and the largest there were."""
        bits = self.builder.bitcast(self.load(pointer, mask), self.words)
        size = self.builder.and_(bits, self.constant(0x7FFFFFFF))
        counts = self.builder.icmp_unsigned("<", size, self.limit)
        return self.builder.select(counts, bits, self.constant(0)), self.larger(largest, size)

    def pairs(self, lower, upper):
        """Leading parts of one vector, each before that of the other one: two rows as the unit wants a column's."""
        return self.builder.or_(self.builder.lshr(lower, self.constant(16)), self.leading(upper))

    def row(self, first, second):
        """Leading parts of one vector, then those of the other one."""
        halves = ir.VectorType(I16, 2 * self.lanes)
        odd = ir.Constant(ir.VectorType(I32, 2 * self.lanes), list(range(1, 4 * self.lanes, 2)))
        return self.builder.shuffle_vector(*(self.builder.bitcast(x, halves) for x in (first, second)), odd)

    def put(self, value, to):
        pointer = self.builder.inttoptr(to, value.type.as_pointer())
        self.builder.store(value, pointer).align = _ROW_BYTES


def _emit_split(module, in_pairs):
    name = f"fastnn_amx_split{'_pairs' if in_pairs else '_rows'}"
    if name in module.globals:
        return module.globals[name]
    function, builder = new_function(module, name, [I64] * 6, I64)
    to, x, x_row, rows, columns, limit = function.args
    v = _Split(builder, limit)
    x, none = v.pointer(x), ir.Constant(ir.VectorType(I1, v.lanes), None)

    def vector_of(row, offset, largest):
        exists = builder.icmp_signed("<", row, rows)
        mask = builder.select(exists, v.first_lanes(columns, offset), none)
        return v.read(v.at(x, builder.add(builder.mul(row, x_row), I64(offset))), mask, largest)

    def line(number, values):
        (largest,) = values
        if in_pairs:  # two rows of x, for 16 columns
            row = builder.mul(number, I64(2))
            first, largest = vector_of(row, 0, largest)
            second, largest = vector_of(builder.add(row, I64(1)), 0, largest)
        else:
            first, largest = vector_of(number, 0, largest)
            second, largest = vector_of(number, v.lanes, largest)
        to_line = builder.add(to, builder.mul(number, I64(_ROW_BYTES)))
        for part in range(PARTS):
            value = v.pairs(first, second) if in_pairs else v.row(first, second)
            v.put(value, builder.add(to_line, I64(part * PART_BYTES)))
            first, second = v.rest(first), v.rest(second)
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
    for i, j, tile in sums:
        place = builder.add(to, I64((i * EDGE * 2 + j) * _ROW_BYTES))
        _emit(builder, "tilestored64", tile, _pointer(builder, place), I64(2 * _ROW_BYTES))
    builder.ret_void()
    return function


@intrinsic
def multiply(typing, rows, columns, steps, a_0, a_1, a_finite_0, a_finite_1, b_0, b_1, b_finite_0, b_finite_1, to):
    """A · B of one or two tiles of rows by one or two tiles of columns, to rows of 32 float32.

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
    """C = max(sums + start, floor), of up to 32 columns; sums: as `multiply` leaves them."""

    def code(context, builder, signature, args):
        c, c_row, sums, start, start_row, rows, columns, floor = args
        v = Vector(builder, _FLOAT)
        c, sums, start, floor = v.pointer(c), v.pointer(sums), v.pointer(start), v.splat(floor)
        masks = [v.first_lanes(columns, offset) for offset in (0, EDGE)]
        with cgutils.for_range(builder, rows, intp=I64) as loop:
            strides = (c, c_row), (start, start_row), (sums, I64(2 * EDGE))
            to, from_, sum_ = (v.at(matrix, builder.mul(loop.index, row)) for matrix, row in strides)
            for j, mask in enumerate(masks):
                offset = I64(j * EDGE)
                x = builder.fadd(v.load(v.at(sum_, offset)), v.load(v.at(from_, offset), mask))
                v.store(v.at_least(x, floor), v.at(to, offset), mask)
        return context.get_dummy_value()

    return types.void(*[types.intp] * 7, floor), code
