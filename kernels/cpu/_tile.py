"""Register tiles: the innermost loop of a matrix product, in LLVM IR. The loops round it (_gemm.py) are plain Numba.

A `tile` computes ``rows`` x ``vectors`` vectors of C in registers (Goto, van de Geijn, ACM TOMS 34, 2008; the BLIS
micro-kernel of Van Zee, van de Geijn, ACM TOMS 41, 2015):

    C[i, :] = max(alpha · sum_k A[i, k] · B[k, :] + start[i, :], floor)

That one ending serves all: start is a row of zeros (store), the bias with row stride 0 (affine), or C itself
(accumulate; with alpha = -lr the update W -= lr · dW); floor is 0 for relu and -inf otherwise.
A few columns that would fill a vector badly are the work of `dots`, whose vectors run along k.
Why IR: loops that LLVM vectorises by itself reach 35-80 % of this, and nothing else in Numba pins values to registers.
"""

import functools
import math

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from ._simd import VECTORS

_MANY_REGISTERS = VECTORS.tile_sums > 12
TILE_VECTORS = 3 if _MANY_REGISTERS else 2
TILE_ROWS = VECTORS.tile_sums // TILE_VECTORS
DOT_ROWS = 4
_I1, _I8, _I32, _I64 = (ir.IntType(bits) for bits in (1, 8, 32, 64))
_BYTE_POINTER = _I8.as_pointer()

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


def _int(n):
    return ir.Constant(_I64, n)


class _Vector:
    """Emits operations on vectors of one dtype. Loads and stores are unaligned; a mask leaves lanes alone."""

    def __init__(self, builder, float_type, lanes=None):
        self.builder = builder
        self.bits = float_type.bitwidth
        self.lanes = lanes or lanes_of(float_type)
        self.element = ir.FloatType() if self.bits == 32 else ir.DoubleType()
        self.type = ir.VectorType(self.element, self.lanes)
        self.zero = ir.Constant(self.type, None)

    def _call(self, name, return_type, args):
        signature = ir.FunctionType(return_type, [arg.type for arg in args])
        function = cgutils.get_or_insert_function(self.builder.module, signature, name)
        return self.builder.call(function, args)

    def pointer(self, address):
        return self.builder.inttoptr(address, self.element.as_pointer())

    def at(self, pointer, index):
        return self.builder.gep(pointer, [index])

    def splat(self, scalar):
        vector = ir.VectorType(scalar.type, self.lanes)
        undefined = ir.Constant(vector, ir.Undefined)
        first = self.builder.insert_element(undefined, scalar, ir.Constant(_I32, 0))
        return self.builder.shuffle_vector(first, undefined, ir.Constant(ir.VectorType(_I32, self.lanes), None))

    def first_lanes(self, n, offset=0):
        """The mask of lanes l with offset + l < n."""
        lane = ir.Constant(ir.VectorType(_I64, self.lanes), [offset + lane for lane in range(self.lanes)])
        return self.builder.icmp_signed("<", lane, self.splat(n))

    def load(self, pointer, mask=None):
        pointer = self.builder.bitcast(pointer, self.type.as_pointer())
        if mask is None:
            value = self.builder.load(pointer)
            value.align = self.bits // 8
            return value
        name = f"llvm.masked.load.v{self.lanes}f{self.bits}.p0"
        return self._call(name, self.type, [pointer, ir.Constant(_I32, self.bits // 8), mask, self.zero])

    def store(self, value, pointer, mask=None):
        pointer = self.builder.bitcast(pointer, self.type.as_pointer())
        if mask is None:
            self.builder.store(value, pointer).align = self.bits // 8
            return
        name = f"llvm.masked.store.v{self.lanes}f{self.bits}.p0"
        self._call(name, ir.VoidType(), [value, pointer, ir.Constant(_I32, self.bits // 8), mask])

    def prefetch(self, pointer):
        into_l1 = [ir.Constant(_I32, n) for n in (0, 3, 1)]  # to read, to keep, data
        self._call("llvm.prefetch.p0", ir.VoidType(), [pointer, *into_l1])

    def multiply_add(self, x, y, z):
        # fmuladd, never fma: without the instruction, fma is a call into libm for each lane.
        return self._call(f"llvm.fmuladd.v{self.lanes}f{self.bits}", self.type, [x, y, z])

    def scalar_multiply_add(self, x, y, z):
        return self._call(f"llvm.fmuladd.f{self.bits}", self.element, [x, y, z])

    def fold(self, x, combine):
        """One of all lanes of a vector, such as their sum: halves are combined until one is left."""
        while x.type.count > 1:
            half = x.type.count // 2
            lanes = (ir.Constant(ir.VectorType(_I32, half), list(range(first, first + half))) for first in (0, half))
            undefined = ir.Constant(x.type, ir.Undefined)
            x = combine(*(self.builder.shuffle_vector(x, undefined, part) for part in lanes))
        return self.builder.extract_element(x, ir.Constant(_I32, 0))

    def at_least(self, x, floor):
        """max(x, floor) where NaN in x stays NaN; in this operand order one instruction on x86."""
        return self.builder.select(self.builder.fcmp_ordered(">", floor, x), floor, x)


def lanes_of(float_type):
    return VECTORS.bytes * 8 // float_type.bitwidth


def _emit_tile(module, float_type, rows, vectors, masked):
    """The function of one tile; see `tile`."""
    name = f"fastnn_tile_f{float_type.bitwidth}_{rows}x{vectors}{'_masked' if masked else ''}"
    if name in module.globals:
        return module.globals[name]
    builder = ir.IRBuilder()
    v = _Vector(builder, float_type)
    function = ir.Function(module, ir.FunctionType(ir.VoidType(), [_I64] * 11 + [v.element] * 2), name)
    function.linkage = "internal"
    function.attributes.add("noinline")
    builder.position_at_end(function.append_basic_block("entry"))
    depth, a, a_row, a_col, b, b_row, c, c_row, start, start_row, n, alpha, floor = function.args
    a, b, c, start = (v.pointer(address) for address in (a, b, c, start))
    masks = [v.first_lanes(n, j * v.lanes) if masked else None for j in range(vectors)]
    # Row i of A is found at bases[i // 5] + offsets[i % 5]: three pointers to advance and four fixed registers.
    bases = [_opaque(builder, v.at(a, builder.mul(a_row, _int(i)))) for i in range(0, rows, _ROWS_PER_BASE)]
    offsets = [_opaque(builder, builder.mul(a_row, _int(i))) for i in range(min(rows, _ROWS_PER_BASE))]

    prefetches, rows_ahead = rows == 1 or _MANY_REGISTERS, builder.mul(b_row, _int(_ROWS_AHEAD))

    def rank_one_update(bases, b, sums):
        """sums + (column k of A) x (row k of B)"""
        b_vectors = [v.load(v.at(b, _int(j * v.lanes)), masks[j]) for j in range(vectors)]
        if prefetches:
            for j in range(vectors):
                v.prefetch(v.at(v.at(b, rows_ahead), _int(j * v.lanes)))
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

        b, *results = _loop(builder, k_first, k_end, steps, [b, *bases, *sums], turn)
        return b, results[:count], results[count:]

    size = rows * vectors
    steps = _STEPS_OF_FEW_ROWS if rows <= 2 else 1
    sums = [v.zero] * (size * steps)
    if steps > 1:
        whole = builder.and_(depth, _int(-steps))
        b, bases, sums = loop_over_k(_int(0), whole, bases, b, steps, sums)
        while len(sums) > size:
            half = len(sums) // 2
            sums = [builder.fadd(x, y) for x, y in zip(sums[:half], sums[half:], strict=True)]
        _, _, sums = loop_over_k(whole, depth, bases, b, 1, sums)
    else:
        _, _, sums = loop_over_k(_int(0), depth, bases, b, 1, sums)

    alpha, floor = v.splat(alpha), v.splat(floor)
    for i in range(rows):
        c_i, start_i = v.at(c, builder.mul(c_row, _int(i))), v.at(start, builder.mul(start_row, _int(i)))
        for j in range(vectors):
            offset = _int(j * v.lanes)
            x = v.multiply_add(alpha, sums[i * vectors + j], v.load(v.at(start_i, offset), masks[j]))
            v.store(v.at_least(x, floor), v.at(c_i, offset), masks[j])
    builder.ret_void()
    return function


def _emit_dots(module, float_type, columns):
    """The function of `dots` for so many columns."""
    name = f"fastnn_dots_f{float_type.bitwidth}_{columns}"
    if name in module.globals:
        return module.globals[name]
    builder = ir.IRBuilder()
    v = _Vector(builder, float_type)
    function = ir.Function(module, ir.FunctionType(ir.VoidType(), [_I64] * 10 + [v.element] * 2), name)
    function.linkage = "internal"
    function.attributes.add("noinline")
    builder.position_at_end(function.append_basic_block("entry"))
    rows, depth, a, a_row, b, b_col, c, c_row, start, start_row, alpha, floor = function.args
    a, b, c, start = (v.pointer(address) for address in (a, b, c, start))
    last = builder.sub(rows, _int(1))  # is computed again where there are fewer rows
    numbers = [builder.select(builder.icmp_signed("<", _int(i), last), _int(i), last) for i in range(DOT_ROWS)]
    a_rows = [v.at(a, builder.mul(a_row, i)) for i in numbers]
    b_columns = [v.at(b, builder.mul(b_col, _int(j))) for j in range(columns)]

    def add_products(k, sums, mask=None):
        b_vectors = [v.load(v.at(b_j, k), mask) for b_j in b_columns]
        result = []
        for i, a_i in enumerate(a_rows):
            a_vector = v.load(v.at(a_i, k), mask)
            result += [v.multiply_add(a_vector, b_vectors[j], sums[i * columns + j]) for j in range(columns)]
        return result

    whole = builder.and_(depth, _int(-v.lanes))
    sums = _loop(builder, _int(0), whole, v.lanes, [v.zero] * (DOT_ROWS * columns), add_products)
    sums = add_products(whole, sums, v.first_lanes(builder.sub(depth, whole)))
    # All of `start` is read before C, which it may be, is written: a row that is computed again must not be added to.
    starts = [v.at(v.at(start, builder.mul(start_row, i)), _int(j)) for i in numbers for j in range(columns)]
    places = [v.at(v.at(c, builder.mul(c_row, i)), _int(j)) for i in numbers for j in range(columns)]
    values = [builder.load(place) for place in starts]
    for x, value, place in zip(sums, values, places, strict=True):
        builder.store(v.at_least(v.scalar_multiply_add(alpha, v.fold(x, builder.fadd), value), floor), place)
    builder.ret_void()
    return function


def most_dots_of(float_type):
    """Columns that `dots` takes: a quarter of a vector, since more would take longer than a vector of them."""
    return lanes_of(float_type) // 4


def _loop(builder, first, end, step, values, body):
    """values = body(k, values) for k = first, first + step, ... below `end`; returns the values after that."""
    before, block, done = builder.block, builder.append_basic_block("k"), builder.append_basic_block("k_done")
    builder.cbranch(builder.icmp_signed("<", first, end), block, done)
    builder.position_at_end(block)
    carried = []
    for value in [first, *values]:
        phi = builder.phi(value.type)
        phi.add_incoming(value, before)
        carried.append(phi)
    k, *current = carried
    current = body(k, current)
    k_next = builder.add(k, _int(step))
    for phi, value in zip(carried, [k_next, *current], strict=True):
        phi.add_incoming(value, builder.block)
    after = builder.block
    repeat = builder.cbranch(builder.icmp_signed("<", k_next, end), block, done)
    # Unrolling gains nothing here and costs compile time.
    repeat.set_metadata("llvm.loop", _never_unroll(builder.module))
    builder.position_at_end(done)
    results = []
    for unchanged, changed in zip(values, current, strict=True):
        phi = builder.phi(unchanged.type)
        phi.add_incoming(unchanged, before)
        phi.add_incoming(changed, after)
        results.append(phi)
    return results


def _opaque(builder, value):
    """The same value, which LLVM can no longer relate to others.

    Left to itself LLVM computes the row addresses of A as one chain of additions through all rows, as long as the
    multiply-adds take (12x2: 172 of 218 GFLOP/s).
    """
    return builder.asm(ir.FunctionType(value.type, [value.type]), "", "=r,0", [value], False)


def _never_unroll(module):
    return module.add_metadata([module.add_metadata([ir.MetaDataString(module, "llvm.loop.unroll.disable")])])


@intrinsic
def tile(typing, rows, n, depth, a, a_row, a_col, b, b_row, c, c_row, start, start_row, alpha, floor):
    """One tile of `rows` (1..TILE_ROWS) by `n` (at most TILE_VECTORS, WIDE if of one row); it touches no other memory.

    depth: the length of the sum. a, b, c, start: addresses. a_row, a_col: elements from one row, one column of A to the
    next; b_row, c_row, start_row: from row to row, whose elements are adjacent. alpha, floor: scalars of the dtype.
    """

    def code(context, builder, signature, args):
        rows, n, depth, *operands, alpha_value, floor_value = args
        vector = lanes_of(alpha)
        whole = _int(TILE_VECTORS * vector)
        kinds = [(TILE_VECTORS, False), *((vectors, True) for vectors in range(TILE_VECTORS, 0, -1))]
        is_wide = builder.icmp_signed(">", n, whole)
        vectors = builder.sdiv(builder.add(n, _int(vector - 1)), _int(vector))
        masked = builder.sub(_int(TILE_VECTORS + 1), vectors)
        kind = builder.select(builder.icmp_signed("==", n, whole), _int(0), masked)
        end = builder.append_basic_block("tile_end")
        number = builder.add(rows, builder.mul(kind, _int(TILE_ROWS)))
        number = builder.select(is_wide, _int(0), number)
        choice = builder.switch(number, end)
        for number, (vectors, is_masked) in enumerate(kinds):
            for height in range(1, TILE_ROWS + 1):
                case = builder.append_basic_block("tile_case")
                choice.add_case(_int(number * TILE_ROWS + height), case)
                builder.position_at_end(case)
                function = _emit_tile(builder.module, alpha, height, vectors, is_masked)
                builder.call(function, [depth, *operands, n, alpha_value, floor_value])
                builder.branch(end)
        wide = builder.append_basic_block("tile_wide")
        choice.add_case(_int(0), wide)
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
            choice.add_case(_int(number), case)
            builder.position_at_end(case)
            builder.call(_emit_dots(builder.module, alpha, number), args)
            builder.branch(end)
        builder.position_at_end(end)
        return context.get_dummy_value()

    return types.void(*[types.intp] * 11, alpha, alpha), code


def _emit_transpose(module, float_type, masked):
    """to[j, i] = from[i, j] for a square block of one vector's lanes, by log2(lanes) rounds of exchanges."""
    name = f"fastnn_transpose_f{float_type.bitwidth}{f'_masked_{masked}' if masked else ''}"
    if name in module.globals:
        return module.globals[name]
    builder = ir.IRBuilder()
    v = _Vector(builder, float_type)
    function = ir.Function(module, ir.FunctionType(ir.VoidType(), [_I64] * 6), name)
    function.linkage = "internal"
    function.attributes.add("noinline")
    builder.position_at_end(function.append_basic_block("entry"))
    to, to_row, source, source_row, m, n = function.args
    to, source = v.pointer(to), v.pointer(source)
    columns = v.first_lanes(n)

    def mask(i, where):
        if masked != where:
            return None
        return builder.select(builder.icmp_signed("<", _int(i), m), columns, ir.Constant(columns.type, None))

    rows = [v.load(v.at(source, builder.mul(source_row, _int(i))), mask(i, "load")) for i in range(v.lanes)]
    bit = 1
    while bit < v.lanes:  # exchange this bit of the row index with that of the lane index
        low = [lane if not lane & bit else v.lanes + (lane ^ bit) for lane in range(v.lanes)]
        high = [lane | bit if not lane & bit else v.lanes + lane for lane in range(v.lanes)]
        low, high = (ir.Constant(ir.VectorType(_I32, v.lanes), order) for order in (low, high))
        for i in range(v.lanes):
            if not i & bit:
                pair = rows[i], rows[i | bit]
                rows[i], rows[i | bit] = builder.shuffle_vector(*pair, low), builder.shuffle_vector(*pair, high)
        bit *= 2
    for i in range(v.lanes):
        v.store(rows[i], v.at(to, builder.mul(to_row, _int(i))), mask(i, "store"))
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


@intrinsic
def copy_bytes(typing, to, source, count):
    """memcpy. LLVM turns it into a few vector moves where `count` is a constant."""

    def code(context, builder, signature, args):
        memcpy = builder.module.declare_intrinsic("llvm.memcpy", [_BYTE_POINTER, _BYTE_POINTER, _I64])
        to, source = (builder.inttoptr(address, _BYTE_POINTER) for address in args[:2])
        builder.call(memcpy, [to, source, args[2], ir.Constant(_I1, 0)])
        return context.get_dummy_value()

    return types.void(*[types.intp] * 3), code


@intrinsic
def prefetch(typing, address):
    """Have the cache line at an address fetched into the second-level cache; the address need not exist."""

    def code(context, builder, signature, args):
        constants = [ir.Constant(_I32, n) for n in (0, 2, 1)]  # to read, not into the first level, data
        function = ir.FunctionType(ir.VoidType(), [_BYTE_POINTER] + 3 * [_I32])
        function = cgutils.get_or_insert_function(builder.module, function, "llvm.prefetch.p0")
        builder.call(function, [builder.inttoptr(args[0], _BYTE_POINTER), *constants])
        return context.get_dummy_value()

    return types.void(types.intp), code


@intrinsic
def scale_past_caches(typing, to, source, factor):
    """Write factor times the vector at `source` to `to`, a multiple of a vector's bytes, and not into the caches.

    Before anybody else is told of it, there must be a `fence`.
    """

    def code(context, builder, signature, args):
        v = _Vector(builder, factor)
        value = builder.fmul(v.load(v.pointer(args[1])), v.splat(args[2]))
        stored = builder.store(value, builder.bitcast(v.pointer(args[0]), v.type.as_pointer()))
        stored.align = v.lanes * v.bits // 8
        stored.set_metadata("nontemporal", builder.module.add_metadata([ir.Constant(_I32, 1)]))
        return context.get_dummy_value()

    return types.void(types.intp, types.intp, factor), code


@intrinsic
def fence(typing):
    """Let all that was written be seen by all before anything that is written later."""

    def code(context, builder, signature, args):
        builder.fence("seq_cst")
        return context.get_dummy_value()

    return types.void(), code


@intrinsic
def lanes(typing, like):
    """How many elements of the dtype of `like` a vector holds: a compile-time constant."""
    return types.intp(like), lambda context, builder, signature, args: _int(lanes_of(like))


@intrinsic
def most_dots(typing, like):
    """Columns that `dots` takes at most: a compile-time constant."""
    return types.intp(like), lambda context, builder, signature, args: _int(most_dots_of(like))


@intrinsic
def itemsize(typing, like):
    """Bytes of an element of the dtype of `like`: a compile-time constant."""
    return types.intp(like), lambda context, builder, signature, args: _int(like.bitwidth // 8)


def _constant(module, name, element, values):
    """Address of a constant array inside the compiled module."""
    value = ir.Constant(ir.ArrayType(element, len(values)), values)
    return cgutils.global_constant(module, name, value)


@intrinsic
def zero_row(typing, like):
    """Address of zeros for the widest tile."""

    def code(context, builder, signature, args):
        element = args[0].type
        array = _constant(builder.module, "fastnn_zero_row", element, [0.0] * (WIDE * lanes_of(like)))
        return builder.ptrtoint(array, _I64)

    return types.intp(like), code


@intrinsic
def one_element(typing, like):
    """Address of a one: with strides of 0 a matrix of ones of any shape."""

    def code(context, builder, signature, args):
        return builder.ptrtoint(_constant(builder.module, "fastnn_one", args[0].type, [1.0]), _I64)

    return types.intp(like), code


def _number(value, value_64=None):
    """Make f(like): the value in the dtype of `like`, a scalar or an array. Numba has none of a variable dtype."""

    @intrinsic
    def number(typing, like):
        dtype = like.dtype if isinstance(like, types.Array) else like
        number = value if value_64 is None or dtype == types.float32 else value_64
        return dtype(like), lambda context, builder, signature, args: context.get_constant(dtype, number)

    return number


zero_of, one_of, infinity_of, nan_of = (_number(value) for value in (0.0, 1.0, math.inf, math.nan))
smallest_normal_of = _number(2.0**-126, 2.0**-1022)
smallest_root_of = _number(2.0**-63, 2.0**-511)  # of the smallest normal number
least_state_of = _number(2.0**-116, 2.0**-1012)


@intrinsic
def load(typing, address, index, like):
    """The element number `index` of the row at `address`. In a loop over `index` LLVM makes vectors of it."""

    def code(context, builder, signature, args):
        row = builder.inttoptr(args[0], args[2].type.as_pointer())
        return builder.load(builder.gep(row, [args[1]]))

    return like(types.intp, types.intp, like), code


@intrinsic
def store(typing, address, index, value):
    """Set the element number `index` of the row at `address`."""

    def code(context, builder, signature, args):
        row = builder.inttoptr(args[0], args[2].type.as_pointer())
        builder.store(args[2], builder.gep(row, [args[1]]))
        return context.get_dummy_value()

    return types.void(types.intp, types.intp, value), code


@intrinsic
def call(typing, address, *args):
    """Call the compiled function at `address`, which returns nothing, with integers and floats."""
    signature = types.void(types.intp, types.StarArgTuple.from_types(args))

    def code(context, builder, signature, args):
        address, packed = args
        values = [builder.extract_value(packed, i) for i in range(len(signature.args[1]))]
        function = ir.FunctionType(ir.VoidType(), [value.type for value in values])
        builder.call(builder.inttoptr(address, function.as_pointer()), values)
        return context.get_dummy_value()

    return signature, code


@intrinsic
def address(typing, array):
    """Address of the first element of an array."""

    def code(context, builder, signature, args):
        data = context.make_array(signature.args[0])(context, builder, args[0]).data
        return builder.ptrtoint(data, _I64)

    return types.intp(array), code


@intrinsic
def keep(typing, array):
    """Use an array whose address was taken: until here it is not freed."""
    return types.void(array), lambda context, builder, signature, args: context.get_dummy_value()


MULTIPLY_ADD_CHAINS = 12  # vectors: enough to hide the latency of a multiply-add, few enough for the registers


@intrinsic
def multiply_add_chains(typing, x, repeats):
    """The sum of values that start from x, x + 1, ... and each go through a <- a/2 + 1/4 `repeats` times.

    That is the fastest a CPU can multiply and add. In IR because of a loop LLVM makes vectors of half the width on many
    CPUs with AVX-512.
    """

    def code(context, builder, signature, args):
        v = _Vector(builder, x)

        def constant(value):
            return ir.Constant(v.type, [value] * v.lanes)

        # From different values: chains that are equal would become one.
        starts = [builder.fadd(v.splat(args[0]), constant(float(i))) for i in range(MULTIPLY_ADD_CHAINS)]
        chains = [cgutils.alloca_once_value(builder, start) for start in starts]
        with cgutils.for_range(builder, args[1]):
            for a in chains:
                builder.store(v.multiply_add(builder.load(a), constant(0.5), constant(0.25)), a)
        total = functools.reduce(builder.fadd, map(builder.load, chains))
        return builder.extract_element(total, ir.Constant(_I32, 0))

    return x(x, repeats), code
