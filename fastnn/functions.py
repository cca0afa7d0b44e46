"""The functions of the book (book 1, ``common/functions.py``), on arrays of any shape; scalars give scalars.

Computed in float32 or float64 as given, other dtypes in what NumPy promotes them and float32 to.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from ._arrays import Array, as_array, as_floats, as_labels, kernels_for
from .layers import SoftmaxWithLoss

__all__ = [
    "cross_entropy_error",
    "identity_function",
    "relu",
    "relu_grad",
    "sigmoid",
    "sigmoid_grad",
    "softmax",
    "softmax_loss",
    "step_function",
    "sum_squared_error",
    "sum_squares_error",
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


def step_function(x: ArrayLike) -> Any:
    """1 where x > 0, else 0, as integers of x's shape. Book 1, section 3.2.2.

    Examples
    --------
    >>> from fastnn.functions import step_function
    >>> step_function([-1.0, 0.0, 2.0])
    array([0, 0, 1])
    """
    return (as_array(x, "step_function", "x") > 0).astype(int)[()]


def _elementwise(who: str, x: ArrayLike, compute: Callable[[Any, Array, Array], None]) -> Any:
    x = as_floats(x, who)
    out = np.empty(x.shape, x.dtype)
    compute(kernels_for(x), x, out)
    return out[()]


def sigmoid(x: ArrayLike) -> Any:
    """1 / (1 + exp(-x)), without overflow. Book 1, section 3.2.4.

    Examples
    --------
    >>> from fastnn.functions import sigmoid
    >>> sigmoid([-1e4, 0.0, 1e4])
    array([0. , 0.5, 1. ])
    """
    return _elementwise("sigmoid", x, lambda k, x, out: k.sigmoid_forward(x, out))


def sigmoid_grad(x: ArrayLike) -> Any:
    """The derivative of sigmoid at x: y · (1 - y). Book 1, section 5.5.2.

    Examples
    --------
    >>> from fastnn.functions import sigmoid_grad
    >>> sigmoid_grad([0.0, 1e4])
    array([0.25, 0.  ])
    """

    def compute(k: Any, x: Array, out: Array) -> None:
        y = np.empty_like(x)
        k.sigmoid_forward(x, y)
        k.sigmoid_backward(np.ones_like(x), y, out)

    return _elementwise("sigmoid_grad", x, compute)


def relu(x: ArrayLike) -> Any:
    """max(x, 0); NaN stays NaN. Book 1, section 3.2.7.

    Examples
    --------
    >>> from fastnn.functions import relu
    >>> relu([-1.5, 0.0, 2.0])
    array([0., 0., 2.])
    """
    return _elementwise("relu", x, lambda k, x, out: k.relu_forward(x, out))


def relu_grad(x: ArrayLike) -> Any:
    """The derivative of relu at x, 1 where x >= 0, else 0: at 0 the book's ``common.functions`` has 1.

    Examples
    --------
    >>> from fastnn.functions import relu_grad
    >>> relu_grad([-1.5, 0.0, 2.0])
    array([0., 1., 1.])
    """
    x = as_floats(x, "relu_grad")
    return (x >= 0).astype(x.dtype)[()]


def softmax(x: ArrayLike) -> Any:
    """exp(x_c) / sum_k exp(x_k) over the last axis. Book 1, section 3.5.

    Examples
    --------
    >>> from fastnn.functions import softmax
    >>> softmax([1000.0, 1000.0])
    array([0.5, 0.5])
    """

    def compute(k: Any, x: Array, y: Array) -> None:
        if x.ndim == 0:
            raise ValueError("softmax: x must have scores along its last axis, got a scalar")
        if x.size:
            k.softmax_forward(x.reshape(-1, x.shape[-1]), y.reshape(-1, x.shape[-1]))

    return _elementwise("softmax", x, compute)


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
    return 0.5 * np.sum((y - t) ** 2)


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
    if labels.ndim == 1:
        return -np.sum(np.log(rows[np.arange(len(labels)), labels] + 1e-7)) / len(rows)
    return -np.sum(labels * np.log(rows + 1e-7)) / len(rows)


def softmax_loss(X: ArrayLike, t: ArrayLike) -> Any:
    """Mean cross-entropy of softmax(X) against labels, by log-sum-exp; the same as ``SoftmaxWithLoss().forward(X, t)``.

    Examples
    --------
    >>> from fastnn.functions import softmax_loss
    >>> round(float(softmax_loss([[0.0, 0.0]], [1])), 4)
    0.6931
    """
    return SoftmaxWithLoss().forward(X, t)
