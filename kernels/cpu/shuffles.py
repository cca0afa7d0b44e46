"""Permutations that follow on each other, an epoch's each. Sibling: kernels/ref/shuffles.py; a GPU is sent the result.

    orders[i] = orders[i - 1], shuffled        orders (K, N) intp, contiguous, of which the first is given

By the exchanges of Fisher and Yates, from the end, as `numpy.random.RandomState.shuffle` does them, whose results are
frozen (NumPy's NEP 19): each place is drawn as the fewest bits that could name it, again where they name none. Here it
takes a fifth of the time, because no branch depends on what was drawn, and because numbers of the Mersenne Twister
(NumPy's global generator) are taken from its state where they lie: 624 of them, which it is asked to renew.
"""

import ctypes
import functools

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from ._ir import I32, I64
from ._jit import entry, jit
from ._memory import address, keep, load, store

_STATE = 624  # numbers; behind them lies how many of them were taken


def shuffles(bit_generator, orders):
    functions = bit_generator.ctypes
    next_uint32 = ctypes.cast(functions.next_uint32, ctypes.c_void_p).value
    is_twister = type(bit_generator) is np.random.MT19937 and _can_read_twister()
    with bit_generator.lock:
        _shuffles(next_uint32, functions.state_address, is_twister, orders)


@functools.cache
def _can_read_twister():
    """Whether its state lies as it does today: NumPy promises nothing. Otherwise it is asked for each number."""
    twister = np.random.MT19937(0)
    state = twister.state["state"]
    lies = (ctypes.c_uint32 * (_STATE + 1)).from_address(twister.ctypes.state_address)
    return list(lies) == [*state["key"].tolist(), state["pos"]]


@entry
def _shuffles(next_uint32, state, is_twister, orders):
    last, mask_of_all, like = orders.shape[1] - 1, 0, np.uint32(0)
    while mask_of_all < last:
        mask_of_all = 2 * mask_of_all + 1
    taken = np.intp(load(state, _STATE, like)) if is_twister else _STATE
    for k in range(1, orders.shape[0]):
        orders[k] = orders[k - 1]
        order, i, mask = address(orders[k]), last, mask_of_all
        while mask > 0:
            while i > mask >> 1:
                if taken < _STATE:
                    j = _tempered(np.intp(load(state, taken, like))) & mask
                    taken += 1
                else:
                    if is_twister:
                        store(state, _STATE, np.uint32(taken))
                        taken = 1
                    j = _draw(next_uint32, state) & mask
                is_place = j <= i
                j = j if is_place else i
                at_i, at_j = load(order, i, last), load(order, j, last)
                store(order, i, at_j)
                store(order, j, at_i)
                i -= is_place
            mask >>= 1
    if is_twister:
        store(state, _STATE, np.uint32(taken))
    keep(orders)


@jit
def _tempered(y):
    """What becomes of a number of the state (Matsumoto, Nishimura, ACM TOMACS 8, 1998)."""
    y ^= y >> 11
    y ^= (y << 7) & 0x9D2C5680
    y ^= (y << 15) & 0xEFC60000
    return y ^ y >> 18


@intrinsic
def _draw(typing, next_uint32, state):
    def code(context, builder, signature, args):
        function = ir.FunctionType(I32, [I64])
        drawn = builder.call(builder.inttoptr(args[0], function.as_pointer()), [args[1]])
        return builder.zext(drawn, I64)

    return types.intp(types.intp, types.intp), code
