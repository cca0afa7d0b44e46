"""Elementary functions as scalar code that LLVM vectorises in the caller's loop; Numba's own call libm per element.

exp(x) = 2^n · exp(r), n = round(x / ln 2), r = x - n · ln 2 in two parts (Cody, Waite 1980), exp(r) a polynomial
log(x) = e · ln 2 + log(1 + f), x = 2^e · (1 + f): a polynomial in float32, in float64 that of Sun's fdlibm (1993)
sigmoid, tanh, softplus: of the parts of these two, so that no digits cancel
erf(x) = x + x · polynomial(x²) where |x| < 1, else 1 - exp(polynomial(|x| - 1))

Errors over all of float32 and float64, subnormal numbers included: docs/accuracy.md. ±inf, NaN, overflow as in NumPy.
"""

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from ._dtype import one_of, zero_of
from ._ir import I32
from ._jit import jit
from ._simd import VECTORS

_HAS_FMA = VECTORS.name != "generic"
_HAS_LDEXP = VECTORS.name == "avx512"  # without the instruction it is a call for each element


@intrinsic
def fma(typing_context, a, b, c):
    """a · b + c, rounded once where the CPU has an instruction for it, else twice: a library call is 15 x slower."""
    return a(a, a, a), lambda context, builder, signature, args: _emit_fma(builder, *args)


def _emit_fma(builder, a, b, c):
    return builder.fma(a, b, c) if _HAS_FMA else builder.fadd(builder.fmul(a, b), c)


def _polynomial(*coefficients):
    """Make p(x): Horner's rule; coefficients of the highest power first."""

    @intrinsic
    def polynomial(typing_context, x):
        def code(context, builder, signature, args):
            first, *others = (ir.Constant(args[0].type, c) for c in coefficients)
            p = first
            for c in others:
                p = _emit_fma(builder, p, args[0], c)
            return p

        return x(x), code

    return polynomial


def _emit_call(builder, name, *args):
    """Call LLVM's own function of that name for floats of this width."""
    t = args[0].type
    suffix = "f32" if isinstance(t, ir.FloatType) else "f64"
    suffix += ".i32" if name == "llvm.ldexp" else ""
    signature = ir.FunctionType(t, [arg.type for arg in args])
    return builder.call(cgutils.get_or_insert_function(builder.module, signature, f"{name}.{suffix}"), args)


@intrinsic
def _ldexp(typing_context, y, n):
    """y · 2^n, whatever n."""

    def code(context, builder, signature, args):
        y, n = args
        return _emit_call(builder, "llvm.ldexp", y, n if n.type.width == 32 else builder.trunc(n, I32))

    return y(y, n), code


@intrinsic
def _copysign(typing_context, magnitude, sign):
    """A float with the sign of another, which may be -0."""

    def code(context, builder, signature, args):
        return _emit_call(builder, "llvm.copysign", *args)

    return magnitude(magnitude, sign), code


@intrinsic
def in_dtype_of(typing_context, like, value):
    """A number in the dtype of `like`: in Numba, a float32 times a constant is a float64."""

    def code(context, builder, signature, args):
        return context.cast(builder, args[1], signature.args[1], signature.return_type)

    return like(like, value), code


@intrinsic
def select(typing_context, condition, a, b):
    """a if condition else b, both computed: an expression so long would become a branch, and its loop not vectors."""
    return a(condition, a, b), lambda context, builder, signature, args: builder.select(*args)


@intrinsic
def larger(typing_context, a, b):
    """The larger of two floats, b if either is NaN: so it is one instruction a vector."""

    def code(context, builder, signature, args):
        return builder.select(builder.fcmp_ordered(">", *args), *args)

    return a(a, b), code


def _either(single, double):
    """A function inside kernels: `single` of a float32, `double` of a float64."""

    @intrinsic
    def function(typing_context, x):
        chosen = typing_context.resolve_value_type({types.float32: single, types.float64: double}[x])
        signature = typing_context.resolve_function_type(chosen, (x,), {})
        return signature, lambda context, builder, _, args: context.get_function(chosen, signature)(builder, args)

    return function


_F, _I = np.float32, np.int32
_LOG2E_32, _LN2_HIGH_32, _LN2_LOW_32 = _F(1.4426950408889634), _F(0.693359375), _F(-2.12194440e-4)
_LN2_32 = _F(0.6931471805599453)
_ROUND_32, _ROUND_BITS_32 = _F(12582912.0), _I(0x4B400000)  # 1.5 · 2^23 and its bits
_ROUND_BIASED_32 = _F(12582912.0 + 127)  # the last bits of a number to which this was added are the exponent of 2^n
_MAX_32, _MIN_32 = _F(89.0), _F(-104.0)  # beyond: inf and 0
_LEAST_32 = _F(-80.0)  # 2^n is a normal number down to here, and exp(x) - 1 = -1
_ONE_32, _BIAS_32, _MANTISSA_32 = _F(1.0), _I(127), _I(23)
_exp_tail_32 = _polynomial(
    0.0013814540483688235, 0.008368745023746226, 0.041668390748219646, 0.16666520401085866, 0.4999999343262752
)


@jit
def _split_32(x):
    """r, tail and n, with exp(x) = (1 + r + r² · tail) · 2^n."""
    shifted = fma(x, _LOG2E_32, _ROUND_32)
    n = _I(_F(shifted).view(np.int32) - _ROUND_BITS_32)
    k = shifted - _ROUND_32
    r = fma(k, -_LN2_HIGH_32, x)
    r = fma(k, -_LN2_LOW_32, r)
    return r, _exp_tail_32(r), n


@jit
def _power_32(n):
    """2^n, a normal number."""
    return _I((n + _BIAS_32) << _MANTISSA_32).view(np.float32)


@jit
def _exp_negative_32(x):
    r, tail, n = _split_32(_MIN_32 if x < _MIN_32 else x)
    y = fma(r * r, tail, r) + _ONE_32
    if _HAS_LDEXP:
        return _ldexp(y, n)
    # 2^n in two factors: n itself may be too large or, for subnormal results, too small for one exponent.
    half = _I(n >> _I(1))
    return y * _power_32(half) * _power_32(_I(n - half))


@jit
def _exp_32(x):
    return _exp_negative_32(_MAX_32 if x > _MAX_32 else x)


@jit
def _expm1_parts_32(x):
    """t and 2^n, with exp(x) = (1 + t) · 2^n for x <= 0, to be added to 1: so ln 2 is exact enough in one part."""
    x = _LEAST_32 if x < _LEAST_32 else x
    shifted = fma(x, _LOG2E_32, _ROUND_BIASED_32)
    r = fma(shifted - _ROUND_BIASED_32, -_LN2_32, x)
    return fma(r * r, _exp_tail_32(r), r), _I(_F(shifted).view(np.int32) << _MANTISSA_32).view(np.float32)


_LOG2E_64, _LN2_HIGH_64, _LN2_LOW_64 = 1.4426950408889634, 6.93147180369123816490e-01, 1.90821492927058770002e-10
_ROUND_64, _ROUND_BITS_64 = 6755399441055744.0, np.int64(0x4338000000000000)  # 1.5 · 2^52 and its bits
_MAX_64, _MIN_64, _LEAST_64 = 710.0, -746.0, -700.0
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


@jit
def _split_64(x):
    """r, tail and n, as above."""
    shifted = fma(x, _LOG2E_64, _ROUND_64)
    n = np.float64(shifted).view(np.int64) - _ROUND_BITS_64
    k = shifted - _ROUND_64
    r = fma(k, -_LN2_HIGH_64, x)
    r = fma(k, -_LN2_LOW_64, r)
    # By pairs (Estrin), for a shorter chain of dependent operations than Horner's.
    r2 = r * r
    high = fma(fma(_Q11, r, _Q10), r2, fma(_Q9, r, _Q8))
    low = fma(fma(_Q7, r, _Q6), r2, fma(_Q5, r, _Q4))
    return r, fma(fma(high, r2 * r2, low), r2, fma(_Q3, r, _Q2)), n


@jit
def _power_64(n):
    return np.int64((n + 1023) << 52).view(np.float64)


@jit
def _exp_negative_64(x):
    r, tail, n = _split_64(_MIN_64 if x < _MIN_64 else x)
    y = fma(r * r, tail, r) + 1.0
    if _HAS_LDEXP:
        return _ldexp(y, n)
    half = n >> 1
    return y * _power_64(half) * _power_64(n - half)


@jit
def _exp_64(x):
    return _exp_negative_64(_MAX_64 if x > _MAX_64 else x)


@jit
def _expm1_parts_64(x):
    r, tail, n = _split_64(_LEAST_64 if x < _LEAST_64 else x)
    return fma(r * r, tail, r), _power_64(n)


exp = _either(_exp_32, _exp_64)
exp_negative = _either(_exp_negative_32, _exp_negative_64)  # exp(x) for x <= 0
_expm1_parts = _either(_expm1_parts_32, _expm1_parts_64)


@jit
def expm1_negative(x):
    """exp(x) - 1 for x <= 0."""
    t, scale = _expm1_parts(x)
    return fma(t, scale, scale - one_of(x))


_SUBNORMAL_32, _UP_32, _DOWN_32 = _F(1.17549435e-38), _F(8388608.0), _F(-23.0)  # below it: multiply by 2^23 first
_TWO_THIRDS_32 = _I(0x3F2AAAAB)
_INF_32, _NAN_32, _ZERO_32, _HALF_32 = _F(np.inf), _F(np.nan), _F(0.0), _F(0.5)
_THIRD_32 = _F(1 / 3)
_log_tail_32 = _polynomial(
    -0.12891589655774816,
    0.13984446336932585,
    -0.12184282585149023,
    0.14005867507222494,
    -0.16680485886380175,
    0.20010405988782243,
    -0.24999797700773504,
    0.3333321598140468,
)


@jit
def _log_scaled_32(f, k):
    """log((1 + f) · 2^k), |f| <= 1/3; it has all its digits however small f is."""
    low = fma(k, _LN2_LOW_32, (f * f) * fma(f, _log_tail_32(f), -_HALF_32))
    return fma(k, _LN2_HIGH_32, f + low)


@jit
def _log_32(x):
    small = x < _SUBNORMAL_32
    y = x * _UP_32 if small else x
    bits = _F(y).view(np.int32)
    e = _I((bits - _TWO_THIRDS_32) >> _MANTISSA_32)
    f = _I(bits - _I(e << _MANTISSA_32)).view(np.float32) - _ONE_32
    result = _log_scaled_32(f, _F(e) + (_DOWN_32 if small else _ZERO_32))
    result = result if x < _INF_32 else x
    return result if x > _ZERO_32 else (-_INF_32 if x == _ZERO_32 else _NAN_32)


@jit
def _log1p_32(z):
    k = _ONE_32 if z > _THIRD_32 else _ZERO_32
    return _log_scaled_32((z - k) * (_ONE_32 - _HALF_32 * k), k)


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


@jit
def _log_scaled_64(f, k):
    """log((1 + f) · 2^k), 1 + f between the roots of 1/2 and 2."""
    half_square = 0.5 * f * f
    s = f / (2.0 + f)
    z = s * s
    w = z * z
    odd = w * fma(w, fma(w, _L6, _L4), _L2)
    even = z * fma(w, fma(w, fma(w, _L7, _L5), _L3), _L1)
    series = s * (half_square + (even + odd))
    return fma(k, _LN2_HIGH_64, f - (half_square - fma(k, _LN2_LOW_64, series)))


@jit
def _log_64(x):
    small = x < _SUBNORMAL_64
    y = x * _UP_64 if small else x
    bits = np.float64(y).view(np.int64)
    e = (bits - _HALF_ROOT_64) >> 52
    f = np.int64(bits - (e << 52)).view(np.float64) - 1.0
    # To a float by adding to the bits of 1.5 · 2^52: not every CPU converts 64-bit integers in vectors.
    k = np.int64(e + _ROUND_BITS_64).view(np.float64) - _ROUND_64 + (_DOWN_64 if small else 0.0)
    result = _log_scaled_64(f, k)
    result = result if x < np.inf else x
    return result if x > 0.0 else (-np.inf if x == 0.0 else np.nan)


@jit
def _log1p_64(z):
    k = 1.0 if z > 0.414 else 0.0
    return _log_scaled_64((z - k) * (1.0 - 0.5 * k), k)


log = _either(_log_32, _log_64)
log1p = _either(_log1p_32, _log1p_64)  # log(1 + z) for 0 <= z <= 1


@jit
def sigmoid(x):
    """1 / (1 + exp(-x))."""
    z, one = exp_negative(-abs(x)), one_of(x)
    return (z if x < zero_of(x) else one) / (one + z)


@jit
def tanh(x):
    """(1 - exp(-2x)) / (1 + exp(-2x)), each rounded once."""
    one = one_of(x)
    t, scale = _expm1_parts(abs(x) * -(one + one))
    return _copysign(fma(t, scale, scale - one) / fma(t, scale, scale + one), x)


@jit
def softplus(x):
    """log(1 + exp(x))."""
    zero = zero_of(x)
    return (zero if x < zero else x) + log1p(exp_negative(-abs(x)))


# Weighted least squares at Chebyshev points, in 70 digits. From |x| = 4 (float32) and 6 (float64) on, erf is 1.
_erf_inner_32 = _polynomial(
    7.882497110086663e-05,
    -0.0008018854992786387,
    0.005189311942686617,
    -0.026854328796067244,
    0.11283597463488053,
    -0.3761262690358044,
    0.12837916588150264,
)
_erf_outer_32 = _polynomial(
    0.00018655170959908638,
    -0.0018296356919530474,
    0.009895253011698277,
    -0.04150305347580508,
    -0.843117797476498,
    -2.638966857258258,
    -1.8496055160142288,
)
_erf_inner_64 = _polynomial(
    5.958930743134941e-11,
    -1.1373902296430911e-09,
    1.4660051998394848e-08,
    -1.6350354461959655e-07,
    1.6461004480962034e-06,
    -1.4925595519506043e-05,
    0.00012055331122299266,
    -0.0008548326981129666,
    0.005223977624823223,
    -0.026866170645077334,
    0.11283791670954882,
    -0.3761263890318375,
    0.1283791670955126,
)
_erf_outer_64 = _polynomial(
    -4.784138794107013e-12,
    1.1756291244225365e-10,
    -1.3019201033622315e-09,
    8.419664887250823e-09,
    -3.301394144917486e-08,
    5.7010203325599e-08,
    2.0671940943277646e-07,
    -2.134585285128484e-06,
    9.67405896444351e-06,
    -2.720095113932413e-05,
    2.6297375124214334e-05,
    0.00023731604488850123,
    -0.001977901117529822,
    0.010033825163216803,
    -0.04156109802356125,
    -0.8431072563594868,
    -2.6389675142347744,
    -1.8496055099332482,
)
_erf_inner = _either(_erf_inner_32, _erf_inner_64)
_erf_outer = _either(_erf_outer_32, _erf_outer_64)
_up_to_3_or_5 = _either(_polynomial(3.0), _polynomial(5.0))


@jit
def erf(x):
    """The error function."""
    above, most = abs(x) - one_of(x), _up_to_3_or_5(x)
    outer = expm1_negative(_erf_outer(most if above > most else above))
    return select(above < zero_of(x), fma(x, _erf_inner(x * x), x), _copysign(outer, x))
