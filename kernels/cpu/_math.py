"""Elementary functions as scalar code that LLVM vectorises in the caller's loop; Numba's own call libm per element.

exp(x) = 2^n · exp(r), n = round(x / ln 2), r = x - n · ln 2 in two parts (Cody, Waite 1980), exp(r) a polynomial
log(x) = e · ln 2 + log(1 + f), x = 2^e · (1 + f): a polynomial in float32, in float64 that of Sun's fdlibm (1993)

Errors below 1.1 ulp over all of float32 and float64, subnormal numbers included; ±inf, NaN, overflow as in NumPy.
"""

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic, overload

from ._jit import jit
from ._simd import VECTORS

# Nothing may be reordered: the rounding by adding 1.5 · 2^23 would be simplified away. Nor may the compiler choose
# where to fuse: it chooses otherwise for the last elements of a loop, which would then differ in their last bit.
_EXACT = frozenset()
_HAS_FMA = VECTORS.name != "generic"


@intrinsic
def fma(typing_context, a, b, c):
    """a · b + c, rounded once where the CPU has an instruction for it, else twice: a library call is 15 x slower."""

    def code(context, builder, signature, args):
        if _HAS_FMA:
            return builder.fma(*args)
        return builder.fadd(builder.fmul(args[0], args[1]), args[2])

    return a(a, a, a), code


_F, _I = np.float32, np.int32
_LOG2E_32, _LN2_HIGH_32, _LN2_LOW_32 = _F(1.4426950408889634), _F(0.693359375), _F(-2.12194440e-4)
_ROUND_32, _ROUND_BITS_32 = _F(12582912.0), _I(0x4B400000)  # 1.5 · 2^23 and its bits
_MAX_32, _MIN_32 = _F(89.0), _F(-104.0)  # beyond: inf and 0
_P2, _P3, _P4, _P5, _P6 = (
    _F(c)
    for c in (
        0.4999999343262752,
        0.16666520401085866,
        0.041668390748219646,
        0.008368745023746226,
        0.0013814540483688235,
    )
)
_ONE_32, _BIAS_32, _MANTISSA_32 = _F(1.0), _I(127), _I(23)


@jit(fastmath=_EXACT)
def _exp32(x):
    x = _MAX_32 if x > _MAX_32 else x
    x = _MIN_32 if x < _MIN_32 else x
    shifted = fma(x, _LOG2E_32, _ROUND_32)
    n = _I(_F(shifted).view(np.int32) - _ROUND_BITS_32)
    k = shifted - _ROUND_32
    r = fma(k, -_LN2_HIGH_32, x)
    r = fma(k, -_LN2_LOW_32, r)
    p = fma(_P6, r, _P5)
    p = fma(p, r, _P4)
    p = fma(p, r, _P3)
    p = fma(p, r, _P2)
    p = fma(r * r, p, r) + _ONE_32
    # 2^n in two factors: n itself may be too large or, for subnormal results, too small for one exponent.
    half = _I(n >> _I(1))
    return (
        p
        * _I((half + _BIAS_32) << _MANTISSA_32).view(np.float32)
        * _I((n - half + _BIAS_32) << _MANTISSA_32).view(np.float32)
    )


_LOG2E_64, _LN2_HIGH_64, _LN2_LOW_64 = 1.4426950408889634, 6.93147180369123816490e-01, 1.90821492927058770002e-10
_ROUND_64, _ROUND_BITS_64 = 6755399441055744.0, np.int64(0x4338000000000000)  # 1.5 · 2^52 and its bits
_MAX_64, _MIN_64 = 710.0, -746.0
_Q2, _Q3, _Q4, _Q5, _Q6, _Q7, _Q8, _Q9, _Q10, _Q11 = (
    0.5000000000000011,
    0.1666666666666641,
    0.04166666666652973,
    0.008333333333494994,
    0.0013888888943758364,
    0.00019841269505723475,
    2.4801492951249026e-05,
    2.755758685977801e-06,
    2.7630305693506707e-07,
    2.4999998144808612e-08,
)


@jit(fastmath=_EXACT)
def _exp64(x):
    x = _MAX_64 if x > _MAX_64 else x
    x = _MIN_64 if x < _MIN_64 else x
    shifted = fma(x, _LOG2E_64, _ROUND_64)
    n = np.float64(shifted).view(np.int64) - _ROUND_BITS_64
    k = shifted - _ROUND_64
    r = fma(k, -_LN2_HIGH_64, x)
    r = fma(k, -_LN2_LOW_64, r)
    # By pairs (Estrin), for a shorter chain of dependent operations than Horner's.
    r2 = r * r
    high = fma(fma(_Q11, r, _Q10), r2, fma(_Q9, r, _Q8))
    low = fma(fma(_Q7, r, _Q6), r2, fma(_Q5, r, _Q4))
    p = fma(fma(high, r2 * r2, low), r2, fma(_Q3, r, _Q2))
    p = fma(r2, p, r) + 1.0
    half = n >> 1
    return p * np.int64((half + 1023) << 52).view(np.float64) * np.int64((n - half + 1023) << 52).view(np.float64)


_SUBNORMAL_32, _UP_32, _DOWN_32 = _F(1.17549435e-38), _F(8388608.0), _F(-23.0)  # below it: multiply by 2^23 first
_TWO_THIRDS_32 = _I(0x3F2AAAAB)
_INF_32, _NAN_32, _ZERO_32, _HALF_32 = _F(np.inf), _F(np.nan), _F(0.0), _F(0.5)
_G3, _G4, _G5, _G6, _G7, _G8, _G9, _G10 = (
    _F(c)
    for c in (
        0.3333321598140468,
        -0.24999797700773504,
        0.20010405988782243,
        -0.16680485886380175,
        0.14005867507222494,
        -0.12184282585149023,
        0.13984446336932585,
        -0.12891589655774816,
    )
)


@jit(fastmath=_EXACT)
def _log32(x):
    small = x < _SUBNORMAL_32
    y = x * _UP_32 if small else x
    bits = _F(y).view(np.int32)
    e = _I((bits - _TWO_THIRDS_32) >> _MANTISSA_32)
    f = _I(bits - _I(e << _MANTISSA_32)).view(np.float32) - _ONE_32
    k = _F(e) + (_DOWN_32 if small else _ZERO_32)
    p = fma(_G10, f, _G9)
    p = fma(p, f, _G8)
    p = fma(p, f, _G7)
    p = fma(p, f, _G6)
    p = fma(p, f, _G5)
    p = fma(p, f, _G4)
    p = fma(p, f, _G3)
    low = fma(k, _LN2_LOW_32, (f * f) * fma(f, p, -_HALF_32))
    result = fma(k, _LN2_HIGH_32, f + low)
    result = result if x < _INF_32 else x
    return result if x > _ZERO_32 else (-_INF_32 if x == _ZERO_32 else _NAN_32)


_SUBNORMAL_64, _UP_64, _DOWN_64 = 2.2250738585072014e-308, 18014398509481984.0, -54.0
_HALF_ROOT_64 = np.int64(0x3FE6A09E667F3BCD)
_L1, _L2, _L3, _L4, _L5, _L6, _L7 = (
    6.666666666666735130e-01,
    3.999999999940941908e-01,
    2.857142874366239149e-01,
    2.222219843214978396e-01,
    1.818357216161805012e-01,
    1.531383769920937332e-01,
    1.479819860511658591e-01,
)


@jit(fastmath=_EXACT)
def _log64(x):
    small = x < _SUBNORMAL_64
    y = x * _UP_64 if small else x
    bits = np.float64(y).view(np.int64)
    e = (bits - _HALF_ROOT_64) >> 52
    f = np.int64(bits - (e << 52)).view(np.float64) - 1.0
    # To a float by adding to the bits of 1.5 · 2^52: not every CPU converts 64-bit integers in vectors.
    k = np.int64(e + _ROUND_BITS_64).view(np.float64) - _ROUND_64 + (_DOWN_64 if small else 0.0)
    half_square = 0.5 * f * f
    s = f / (2.0 + f)
    z = s * s
    w = z * z
    odd = w * fma(w, fma(w, _L6, _L4), _L2)
    even = z * fma(w, fma(w, fma(w, _L7, _L5), _L3), _L1)
    series = s * (half_square + (even + odd))
    result = fma(k, _LN2_HIGH_64, f - (half_square - fma(k, _LN2_LOW_64, series)))
    result = result if x < np.inf else x
    return result if x > 0.0 else (-np.inf if x == 0.0 else np.nan)


def exp(x):
    """e to the power x, of a float32 or float64, inside kernels."""
    return np.exp(x)


@overload(exp)
def _exp(x):
    return {types.float32: lambda x: _exp32(x), types.float64: lambda x: _exp64(x)}.get(x)


def log(x):
    """The natural logarithm of a float32 or float64, inside kernels."""
    return np.log(x)


@overload(log)
def _log(x):
    return {types.float32: lambda x: _log32(x), types.float64: lambda x: _log64(x)}.get(x)


@intrinsic
def maximum(typing_context, a, b):
    """The larger of two floats, NaN if either is: one instruction a vector, where a comparison does not vectorise."""

    def code(context, builder, signature, args):
        t = args[0].type
        name = f"llvm.maximum.{'f32' if isinstance(t, ir.FloatType) else 'f64'}"
        return builder.call(cgutils.get_or_insert_function(builder.module, ir.FunctionType(t, [t, t]), name), args)

    return a(a, a), code


@jit
def row_max(x):
    """The largest element of a one-dimensional array of at least one; NaN if any is NaN."""
    m = x[0]
    for i in range(x.size):
        m = maximum(m, x[i])
    return m
