"""Words for writing LLVM IR: vectors, loops, constants."""

from llvmlite import ir
from numba.core import cgutils

from ._simd import VECTORS

I1, I8, I16, I32, I64 = (ir.IntType(bits) for bits in (1, 8, 16, 32, 64))
BYTE_POINTER = I8.as_pointer()
_VOID = ir.VoidType()


class Vector:
    """Emits operations on vectors of one dtype. Loads and stores are unaligned; a mask leaves lanes alone."""

    def __init__(self, builder, float_type, lanes=None):
        self.builder = builder
        self.bits = float_type.bitwidth
        self.lanes = lanes or lanes_of(float_type)
        self.element = element_of(float_type)
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
        first = self.builder.insert_element(undefined, scalar, I32(0))
        return self.builder.shuffle_vector(first, undefined, ir.Constant(ir.VectorType(I32, self.lanes), None))

    def first_lanes(self, n, offset=0):
        """The mask of lanes l with offset + l < n."""
        lane = ir.Constant(ir.VectorType(I64, self.lanes), [offset + lane for lane in range(self.lanes)])
        return self.builder.icmp_signed("<", lane, self.splat(n))

    def load(self, pointer, mask=None):
        pointer = self.builder.bitcast(pointer, self.type.as_pointer())
        if mask is None:
            value = self.builder.load(pointer)
            value.align = self.bits // 8
            return value
        name = f"llvm.masked.load.v{self.lanes}f{self.bits}.p0"
        return self._call(name, self.type, [pointer, I32(self.bits // 8), mask, self.zero])

    def store(self, value, pointer, mask=None):
        pointer = self.builder.bitcast(pointer, self.type.as_pointer())
        if mask is None:
            self.builder.store(value, pointer).align = self.bits // 8
            return
        name = f"llvm.masked.store.v{self.lanes}f{self.bits}.p0"
        self._call(name, ir.VoidType(), [value, pointer, I32(self.bits // 8), mask])

    def prefetch(self, pointer, level=1):
        """Have a cache line, which need not exist, fetched into the cache of a level."""
        numbers = [I32(n) for n in (0, 4 - level, 1)]  # to read, how near, data
        self._call("llvm.prefetch.p0", ir.VoidType(), [pointer, *numbers])

    def multiply_add(self, x, y, z):
        # fmuladd, never fma: without the instruction, fma is a call into libm for each lane.
        return self._call(f"llvm.fmuladd.v{self.lanes}f{self.bits}", self.type, [x, y, z])

    def scalar_multiply_add(self, x, y, z):
        return self._call(f"llvm.fmuladd.f{self.bits}", self.element, [x, y, z])

    def fold(self, x, combine):
        """One of all lanes of a vector, such as their sum: halves are combined until one is left."""
        while x.type.count > 1:
            half = x.type.count // 2
            lanes = (ir.Constant(ir.VectorType(I32, half), list(range(first, first + half))) for first in (0, half))
            undefined = ir.Constant(x.type, ir.Undefined)
            x = combine(*(self.builder.shuffle_vector(x, undefined, part) for part in lanes))
        return self.builder.extract_element(x, I32(0))

    def at_least(self, x, floor):
        """max(x, floor) where NaN in x stays NaN; in this operand order one instruction on x86."""
        return self.builder.select(self.builder.fcmp_ordered(">", floor, x), floor, x)


def lanes_of(float_type):
    return VECTORS.bytes * 8 // float_type.bitwidth


def element_of(float_type):
    return ir.FloatType() if float_type.bitwidth == 32 else ir.DoubleType()


def new_function(module, name, arguments, result=_VOID):
    """A function for this module alone, and the builder of its code."""
    function = ir.Function(module, ir.FunctionType(result, arguments), name)
    function.linkage = "internal"
    function.attributes.add("noinline")
    return function, ir.IRBuilder(function.append_basic_block("entry"))


def loop(builder, first, end, step, values, body):
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
    k_next = builder.add(k, I64(step))
    for phi, value in zip(carried, [k_next, *current], strict=True):
        phi.add_incoming(value, builder.block)
    after = builder.block
    repeat = builder.cbranch(builder.icmp_signed("<", k_next, end), block, done)
    # Unrolling gains nothing here and costs compile time.
    repeat.set_metadata("llvm.loop", never_unroll(builder.module))
    builder.position_at_end(done)
    results = []
    for unchanged, changed in zip(values, current, strict=True):
        phi = builder.phi(unchanged.type)
        phi.add_incoming(unchanged, before)
        phi.add_incoming(changed, after)
        results.append(phi)
    return results


def opaque(builder, value):
    """The same value, which LLVM can no longer relate to others.

    Left to itself LLVM computes the row addresses of A as one chain of additions through all rows, as long as the
    multiply-adds take (12x2: 172 of 218 GFLOP/s).
    """
    return builder.asm(ir.FunctionType(value.type, [value.type]), "", "=r,0", [value], False)


def never_unroll(module):
    return module.add_metadata([module.add_metadata([ir.MetaDataString(module, "llvm.loop.unroll.disable")])])


def constant_array(module, name, element, values):
    """Address of a constant array inside the compiled module."""
    value = ir.Constant(ir.ArrayType(element, len(values)), values)
    return cgutils.global_constant(module, name, value)
