"""Losses of small arrays, called past Numba's dispatcher: see _objects.py.

    @small_loss(loop, at_most=4096)
    def kernel(x, t, ..., dx): ...

gives the kernel ``kernel.at_once(x, t, dx)``, which writes the gradient and returns the loss, a float; or False where
something is not as it should be, among it the loss, if it is not finite: dx then holds nothing. ``kernel.small`` is the
same for the kernel itself, compiled when needed.
"""

import numpy as np
from numba import types

from ._jit import c_function, jit, once
from ._memory import call, load
from ._objects import (
    CONTIGUOUS_ALIGNED,
    DATA,
    DESCR,
    FLOAT32,
    FLOAT64,
    INTP,
    NDARRAY,
    OWN,
    SHAPE,
    TYPE,
    WRITEABLE,
    boolean,
    is_plain,
    ndim,
    new_float,
    python_function,
    read,
    same_shape,
    table_of,
)

_DTYPES = [np.dtype("float32"), np.dtype("float64")]
_LIMIT_OF_SIZE, _INDICES, _LOSS, _LOOPS = range(OWN, OWN + 32, 8)
_AS_KEPT = CONTIGUOUS_ALIGNED | WRITEABLE  # x and t are kept by layers, which want no other


def small_loss(loop, at_most, indices=False):
    """Give a kernel a twin for small arrays.

    Parameters
    ----------
    loop : function
        loop(x, t, dx, N, C, loss): pointers, x and dx to N rows of C elements, loss to a float64.
    at_most : int
        Elements of x.
    indices : bool
        Whether t holds an intp for each row of x, which has two axes then; else it is like x.
    """

    def decorate(kernel):
        table = table_of(at_most, indices, *[0] * (1 + len(_DTYPES)))

        @once
        def compiled(dtype):
            x = types.CPointer(types.float64 if dtype == np.float64 else types.float32)
            t = types.CPointer(types.intp) if indices else x
            loss = types.CPointer(types.float64)
            function = c_function(types.void(x, t, x, types.intp, types.intp, loss), loop)
            table[_LOOPS // 8 + _DTYPES.index(dtype)] = function.address
            kernel.at_once = kernel.at_once or python_function(_at_once, table)
            return function

        def small(x, t, dx):
            if x.size > at_most:
                return False
            compiled(x.dtype)
            return kernel.at_once(x, t, dx)

        kernel.small, kernel.at_once = small, None
        return kernel

    return decorate


@jit
def _work(table, args, count):
    """Write the gradient, and the loss into the table; whether that was done."""
    if count != 3:
        return False
    x, t, dx = read(args, 0), read(args, 8), read(args, 16)
    if read(x, TYPE) != read(table, NDARRAY):
        return False
    dtype, loop, label = read(x, DESCR), read(table, _LOOPS), read(x, DESCR)
    if dtype == read(table, FLOAT64):
        loop = read(table, _LOOPS + 8)
    elif dtype != read(table, FLOAT32):
        return False
    if read(table, _INDICES):
        label = read(table, INTP)
    if loop == 0 or not (
        is_plain(table, x, dtype, _AS_KEPT)
        and is_plain(table, t, label, _AS_KEPT)
        and is_plain(table, dx, dtype, _AS_KEPT)
        and same_shape(x, dx)
    ):
        return False
    N, C = 1, 1
    if read(table, _INDICES):
        if ndim(x) != 2 or ndim(t) != 1:
            return False
        N, C = read(read(x, SHAPE), 0), read(read(x, SHAPE), 8)
        if read(read(t, SHAPE), 0) != N:
            return False
    else:
        if not same_shape(x, t):
            return False
        for i in range(ndim(x)):
            C *= read(read(x, SHAPE), 8 * i)
    if not 0 < N * C <= read(table, _LIMIT_OF_SIZE):
        return False
    call(loop, read(x, DATA), read(t, DATA), read(dx, DATA), N, C, table + _LOSS)
    return np.isfinite(load(table + _LOSS, 0, 0.0))


def _at_once(table, args, count):
    """What Python calls."""
    table = read(table, DATA)
    return new_float(load(table + _LOSS, 0, 0.0)) if _work(table, args, count) else boolean(table, False)
