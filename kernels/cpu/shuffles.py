"""Permutations that follow on each other, an epoch's each. Sibling: kernels/ref/shuffles.py; a GPU is sent the result.

    orders[i] = orders[i - 1], shuffled        orders (K, N) intp, of which the first is given

By the exchanges of Fisher and Yates, from the end, as `numpy.random.RandomState.shuffle` does them, whose results are
frozen (NumPy's NEP 19): each place is drawn as the fewest bits that could name it, again where they name none. Here it
takes a quarter of the time, because no branch depends on what was drawn.
"""

import ctypes

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from ._ir import I32, I64
from ._jit import entry


def shuffles(bit_generator, orders):
    functions = bit_generator.ctypes
    with bit_generator.lock:
        _shuffles(ctypes.cast(functions.next_uint32, ctypes.c_void_p).value, functions.state_address, orders)


@entry
def _shuffles(next_uint32, state, orders):
    last, mask_of_all = orders.shape[1] - 1, 0
    while mask_of_all < last:
        mask_of_all = 2 * mask_of_all + 1
    for k in range(1, orders.shape[0]):
        order, i, mask = orders[k], last, mask_of_all
        order[:] = orders[k - 1]
        while i > 0:
            j = _draw(next_uint32, state) & mask
            is_place = j <= i
            j = j if is_place else i
            order[i], order[j] = order[j], order[i]
            i -= is_place
            mask >>= i <= mask >> 1


@intrinsic
def _draw(typing, next_uint32, state):
    def code(context, builder, signature, args):
        function = ir.FunctionType(I32, [I64])
        drawn = builder.call(builder.inttoptr(args[0], function.as_pointer()), [args[1]])
        return builder.zext(drawn, I64)

    return types.intp(types.intp, types.intp), code
