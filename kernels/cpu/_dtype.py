"""What depends on a dtype alone, for Numba's code: known when it is compiled."""

import math

from numba import types
from numba.extending import intrinsic

from ._ir import I64, lanes_of


@intrinsic
def lanes(typing, like):
    """How many elements of the dtype of `like` a vector holds: a compile-time constant."""
    return types.intp(like), lambda context, builder, signature, args: I64(lanes_of(like))


@intrinsic
def itemsize(typing, like):
    """Bytes of an element of the dtype of `like`: a compile-time constant."""
    return types.intp(like), lambda context, builder, signature, args: I64(like.bitwidth // 8)


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
