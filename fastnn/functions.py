"""The functions of the book (book 1, ``common/functions.py``) and more, on arrays of any shape; scalars give scalars.

Computed in float32 or float64 as given, other dtypes in what NumPy promotes them and float32 to. What returns an array
takes ``out``: an array of the result's shape and dtype, contiguous, which is overwritten and returned, and may be x.
"""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from . import config
from ._arrays import (
    AT_ONCE,
    FLOAT16,
    FLOAT32,
    Array,
    as_array,
    as_floats,
    as_labels,
    as_output,
    check_one_device,
    kernels_for,
)
from ._device import xp_of
from .layers import SoftmaxWithLoss
from .layers.gelu import gelu_kernel
from .layers.leaky_relu import checked_slope

__all__ = [
    "cross_entropy_error",
    "gelu",
    "identity_function",
    "leaky_relu",
    "log_softmax",
    "relu",
    "relu_grad",
    "sigmoid",
    "sigmoid_grad",
    "silu",
    "softmax",
    "softmax_loss",
    "softplus",
    "step_function",
    "sum_squared_error",
    "sum_squares_error",
    "tanh",
]


def identity_function(x: Any) -> Any:
    """x itself, the output layer's function in regression. Book 1, section 3.4.3.

    Examples
    --------
    >>> from fastnn.functions import identity_function
    >>> identity_function(3.0)
    3.0
    """
    return x


def step_function(x: ArrayLike, out: Array | None = None) -> Any:
    """1 where x > 0, else 0, as integers of x's shape. Book 1, section 3.2.2.

    Examples
    --------
    >>> from fastnn.functions import step_function
    >>> step_function([-1.0, 0.0, 2.0])
    array([0, 0, 1])
    """
    x = as_array(x, "step_function", "x")
    y = as_output(out, x.shape, np.dtype(int), "step_function", x)
    y[...] = x > 0
    return y[()] if out is None else y


def _apply(kernel: str, x: ArrayLike, out: Array | None) -> Any:
    """The kernel ``sigmoid_forward`` on each element of `x`, which may be float16."""
    if out is not None and not config.GPU and AT_ONCE[kernel](x, out):
        return out
    return _apply_checked(kernel, x, (), out)


def _apply_checked(kernel: str, x: ArrayLike, scalars: tuple[float, ...], out: Array | None) -> Any:
    who = kernel.removesuffix("_forward").removesuffix("_tanh")
    x = as_floats(x, who, halves=True)
    y = as_output(out, x.shape, FLOAT32 if x.dtype == FLOAT16 else x.dtype, who, x)
    getattr(kernels_for(x), kernel)(x, *scalars, y)
    return y[()] if out is None else y


def sigmoid(x: ArrayLike, out: Array | None = None) -> Any:
    """1 / (1 + exp(-x)), without overflow. Book 1, section 3.2.4.

    Examples
    --------
    >>> from fastnn.functions import sigmoid
    >>> sigmoid([-1e4, 0.0, 1e4])
    array([0. , 0.5, 1. ])
    """
    return _apply("sigmoid_forward", x, out)


def sigmoid_grad(x: ArrayLike, out: Array | None = None) -> Any:
    """The derivative of sigmoid at x: y · (1 - y). Book 1, section 5.5.2.

    Examples
    --------
    >>> from fastnn.functions import sigmoid_grad
    >>> sigmoid_grad([0.0, 1e4])
    array([0.25, 0.  ])
    """
    x = as_floats(x, "sigmoid_grad")
    dx = as_output(out, x.shape, x.dtype, "sigmoid_grad", x)
    k = kernels_for(x)
    k.sigmoid_forward(x, dx)
    k.sigmoid_backward(k.xp.ones_like(x), dx, dx)
    return dx[()] if out is None else dx


def relu(x: ArrayLike, out: Array | None = None) -> Any:
    """max(x, 0); NaN stays NaN. Book 1, section 3.2.7.

    Examples
    --------
    >>> from fastnn.functions import relu
    >>> relu([-1.5, 0.0, 2.0])
    array([0., 0., 2.])
    """
    return _apply("relu_forward", x, out)


def relu_grad(x: ArrayLike, out: Array | None = None) -> Any:
    """The derivative of relu at x, 1 where x >= 0, else 0: at 0 the book's ``common.functions`` has 1.

    Examples
    --------
    >>> from fastnn.functions import relu_grad
    >>> relu_grad([-1.5, 0.0, 2.0])
    array([0., 1., 1.])
    """
    x = as_floats(x, "relu_grad")
    dx = as_output(out, x.shape, x.dtype, "relu_grad", x)
    dx[...] = x >= 0
    return dx[()] if out is None else dx


def tanh(x: ArrayLike, out: Array | None = None) -> Any:
    """The hyperbolic tangent.

    Examples
    --------
    >>> from fastnn.functions import tanh
    >>> tanh([-1e4, 0.0, 1e4])
    array([-1.,  0.,  1.])
    """
    return _apply("tanh_forward", x, out)


def leaky_relu(x: ArrayLike, alpha: float = 0.01, out: Array | None = None) -> Any:
    """x where x >= 0, else alpha · x. As `fastnn.layers.LeakyRelu`.

    Examples
    --------
    >>> from fastnn.functions import leaky_relu
    >>> leaky_relu([-1.0, 2.0], alpha=0.25)
    array([-0.25,  2.  ])
    """
    alpha = checked_slope(alpha, "leaky_relu")
    if out is not None and not config.GPU and AT_ONCE["leaky_relu_forward"](x, alpha, out):
        return out
    return _apply_checked("leaky_relu_forward", x, (alpha,), out)


def softplus(x: ArrayLike, out: Array | None = None) -> Any:
    """log(1 + exp(x)), without overflow. As `fastnn.layers.Softplus`.

    Examples
    --------
    >>> from fastnn.functions import softplus
    >>> softplus([-1e4, 1e4])
    array([    0., 10000.])
    """
    return _apply("softplus_forward", x, out)


def gelu(x: ArrayLike, approximate: str = "none", out: Array | None = None) -> Any:
    """x · P(X <= x) of a standard normal X; ``approximate="tanh"`` for the approximation. As `fastnn.layers.Gelu`.

    Examples
    --------
    >>> from fastnn.functions import gelu
    >>> gelu([-1.0, 0.0, 1.0]).round(4)
    array([-0.1587,  0.    ,  0.8413])
    """
    return _apply(f"{gelu_kernel(approximate, 'gelu')}_forward", x, out)


def silu(x: ArrayLike, out: Array | None = None) -> Any:
    """x · sigmoid(x), also called swish. As `fastnn.layers.Silu`.

    Examples
    --------
    >>> from fastnn.functions import silu
    >>> silu([-1e3, 0.0, 1e3])
    array([  -0.,    0., 1000.])
    """
    return _apply("silu_forward", x, out)


def softmax(x: ArrayLike, out: Array | None = None) -> Any:
    """exp(x_c) / sum_k exp(x_k) over the last axis. Book 1, section 3.5.

    Examples
    --------
    >>> from fastnn.functions import softmax
    >>> softmax([1000.0, 1000.0])
    array([0.5, 0.5])
    """
    return _over_classes("softmax", x, out)


def log_softmax(x: ArrayLike, out: Array | None = None) -> Any:
    """x_c - log sum_k exp(x_k) over the last axis: the logarithm of `softmax`, finite for any finite x.

    Examples
    --------
    >>> from fastnn.functions import log_softmax
    >>> log_softmax([1000.0, 0.0])
    array([    0., -1000.])
    """
    return _over_classes("log_softmax", x, out)


def _over_classes(who: str, x: ArrayLike, out: Array | None) -> Array:
    x = as_floats(x, who)
    if x.ndim == 0:
        raise ValueError(f"{who}: x must have scores along its last axis, got a scalar")
    y = as_output(out, x.shape, x.dtype, who, x)
    if x.size:
        getattr(kernels_for(x), f"{who}_forward")(x.reshape(-1, x.shape[-1]), y.reshape(-1, x.shape[-1]))
    return y


def sum_squared_error(y: ArrayLike, t: ArrayLike) -> Any:
    """Half the sum of (y - t)², over all elements. Book 1, section 4.2.1. Also named ``sum_squares_error``.

    Examples
    --------
    >>> from fastnn.functions import sum_squared_error
    >>> float(sum_squared_error([0.5, 1.0], [0, 1]))
    0.125
    """
    y, t = as_floats(y, "sum_squared_error", "y"), as_floats(t, "sum_squared_error", "t")
    if y.shape != t.shape:
        raise ValueError(f"sum_squared_error: t must have the shape {y.shape} of y, got {t.shape}")
    check_one_device(y, t)
    return 0.5 * ((y - t) ** 2).sum()


sum_squares_error = sum_squared_error


def cross_entropy_error(y: ArrayLike, t: ArrayLike) -> Any:
    """Mean cross-entropy of probabilities against labels: the mean of -log(y[t] + 1e-7). Book 1, section 4.2.4.

    Parameters
    ----------
    y : array_like
        Probabilities (N, C), or (C,) for one sample.
    t : array_like
        Class indices (N,), or one-hot or soft labels of y's shape.

    Examples
    --------
    >>> from fastnn.functions import cross_entropy_error
    >>> round(float(cross_entropy_error([[0.5, 0.5], [0.1, 0.9]], [0, 1])), 4)
    0.3993
    """
    y = as_floats(y, "cross_entropy_error", "y")
    if y.size == 0 or y.ndim == 0:
        raise ValueError(f"cross_entropy_error: y must hold probabilities (N, C) of at least one sample, got {y.shape}")
    labels = as_labels(t, y, "cross_entropy_error")
    rows = y.reshape(-1, y.shape[-1])
    xp = xp_of(y)
    if labels.ndim == 1:
        return -xp.log(rows[xp.arange(len(labels)), labels] + 1e-7).sum() / len(rows)
    return -(labels * xp.log(rows + 1e-7)).sum() / len(rows)


def softmax_loss(X: ArrayLike, t: ArrayLike) -> Any:
    """Mean cross-entropy of softmax(X) against labels, by log-sum-exp; the same as ``SoftmaxWithLoss().forward(X, t)``.

    Examples
    --------
    >>> from fastnn.functions import softmax_loss
    >>> round(float(softmax_loss([[0.0, 0.0]], [1])), 4)
    0.6931
    """
    return SoftmaxWithLoss().forward(X, t)
