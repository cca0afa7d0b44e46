"""What bounds every kernel: multiply-adds in registers, and copying. Sibling: kernels/ref/roofline.py.

multiply_adds: out[k] = the sum of _CHAINS values that start from x[k], x[k] + 1, ... and each go through
a <- a/2 + 1/4 `repeats` times; returns the number of floating-point operations.
copy_to_and_fro: out = x, then x = out, `repeats` times.

x, out: (K,), or (K, D) to copy; each k belongs to one thread, and none waits for another.
"""

import functools

from llvmlite import ir
from numba import prange
from numba.core import cgutils
from numba.extending import intrinsic

from ._dtype import lanes
from ._ir import I32, Vector
from ._prange import cpu_kernel

_CHAINS = 12  # vectors: enough to hide the latency of a multiply-add, few enough for the registers


@intrinsic
def _multiply_add_chains(typing, x, repeats):
    """The sum of values that start from x, x + 1, ... and each go through a <- a/2 + 1/4 `repeats` times.

    That is the fastest a CPU can multiply and add. In IR because of a loop LLVM makes vectors of half the width on many
    CPUs with AVX-512.
    """

    def code(context, builder, signature, args):
        v = Vector(builder, x)

        def constant(value):
            return ir.Constant(v.type, [value] * v.lanes)

        # From different values: chains that are equal would become one.
        starts = [builder.fadd(v.splat(args[0]), constant(float(i))) for i in range(_CHAINS)]
        chains = [cgutils.alloca_once_value(builder, start) for start in starts]
        with cgutils.for_range(builder, args[1]):
            for a in chains:
                builder.store(v.multiply_add(builder.load(a), constant(0.5), constant(0.25)), a)
        total = functools.reduce(builder.fadd, map(builder.load, chains))
        return builder.extract_element(total, I32(0))

    return x(x, repeats), code


@cpu_kernel(parallel_above=0)
def multiply_adds(x, repeats, out):
    for k in prange(x.size):
        out[k] = _multiply_add_chains(x[k], repeats)
    return 2 * _CHAINS * lanes(x[0]) * repeats * x.size


@cpu_kernel(parallel_above=0)
def copy_to_and_fro(x, repeats, out):
    for k in prange(x.shape[0]):
        for _ in range(repeats):
            out[k] = x[k]
            x[k] = out[k]
