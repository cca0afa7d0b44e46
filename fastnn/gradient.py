"""Numerical differentiation (book 1, sections 4.3 and 4.4; ``common/gradient.py``) and gradient checks."""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from ._device import Array, on_gpu, xp_of

__all__ = ["gradient_check", "gradient_descent", "numerical_diff", "numerical_gradient"]


def numerical_diff(f: Callable[[Any], Any], x: Any) -> Any:
    """The derivative of `f` at `x`, by central differences with a step of 1e-4.

    Examples
    --------
    >>> from fastnn.gradient import numerical_diff
    >>> round(numerical_diff(lambda x: x**2, 3.0), 6)
    6.0
    """
    h = 1e-4
    return (f(x + h) - f(x - h)) / (2 * h)


def numerical_gradient(f: Callable[[Array], Any], x: Array, h: float = 1e-4) -> Array:
    """The gradient of the scalar function `f` at `x`, by central differences.

    Parameters
    ----------
    f : callable
        Called with x, whose elements are changed in place one at a time and restored: a function that uses x's memory
        without looking at its argument (the loss of a network that holds x as a weight) works as well.
    x : ndarray
        Floats, any shape; writeable.
    h : float
        Step.

    Returns
    -------
    ndarray
        Of x's shape.

    Raises
    ------
    TypeError
        Where x is not an array of floats.

    Examples
    --------
    >>> import numpy as np
    >>> from fastnn.gradient import numerical_gradient
    >>> numerical_gradient(lambda x: np.sum(x**2), np.array([3.0, 4.0])).round(6)
    array([6., 8.])
    """
    is_array = isinstance(x, np.ndarray) or on_gpu(x)
    if not is_array or x.dtype.kind != "f":
        kind = x.dtype if is_array else type(x).__name__
        raise TypeError(f"numerical_gradient: x must be an array of floats, which can be moved by {h}, got {kind}")
    gradient = xp_of(x).empty(x.shape, x.dtype)
    for i in np.ndindex(x.shape):
        value = float(x[i])
        try:
            x[i] = value + h
            above, high = float(f(x)), float(x[i])
            x[i] = value - h
            below, low = float(f(x)), float(x[i])
        finally:
            x[i] = value
        gradient[i] = (above - below) / (high - low)  # the step as it was rounded into x's dtype
    return gradient


def gradient_descent(
    f: Callable[[Array], Any], init_x: ArrayLike, lr: float = 0.01, step_num: int = 100, history: bool = False
) -> Any:
    """Minimise `f` by steps against its numerical gradient. Book 1, section 4.4.1.

    Parameters
    ----------
    f : callable
        From an array to a scalar.
    init_x : array_like
        Where to start; not modified.
    lr : float
        Learning rate.
    step_num : int
        Number of steps.
    history : bool
        Return the way as well.

    Returns
    -------
    x : ndarray
        Where the last step ended.
    x_history : ndarray, only if `history`
        (step_num, ...): the positions before each step.

    Examples
    --------
    >>> import numpy as np
    >>> from fastnn.gradient import gradient_descent
    >>> bool(np.all(abs(gradient_descent(lambda x: np.sum(x**2), [-3.0, 4.0], lr=0.1)) < 1e-6))
    True
    """
    x = np.array(init_x, dtype=np.result_type(np.asarray(init_x).dtype, np.float32))
    way = []
    for _ in range(step_num):
        way.append(x.copy())
        x -= lr * numerical_gradient(f, x)
    return (x, np.array(way)) if history else x


def gradient_check(layer_or_model: Any, x: ArrayLike, t: ArrayLike | None = None, h: float = 1e-5) -> dict[str, float]:
    """Compare the gradients of ``backward`` with central differences.

    Parameters
    ----------
    layer_or_model : object
        With ``forward``, ``backward``, ``params`` and ``grads``. With `t`, forward(x, t) is a loss; without, the
        output of forward(x) is multiplied by fixed random weights and summed, so that every output counts.
    x : array_like
        Input. float64 (and parameters likewise) for a sharp check: then errors of correct gradients are near 1e-9.
        Keep it away from kinks (relu at 0) by more than `h`.
    t : array_like, optional
        Labels.
    h : float
        Step of the differences.

    Returns
    -------
    dict
        By name (``"x"``, then the parameters: ``"W"``, ``"b1"`` or ``"params[0]"``), the largest difference between
        the two gradients, relative to the largest element of either.

    Examples
    --------
    >>> import numpy as np
    >>> from fastnn.gradient import gradient_check
    >>> from fastnn.layers import Affine
    >>> rng = np.random.default_rng(0)
    >>> affine = Affine(rng.standard_normal((3, 2)), rng.standard_normal(2))
    >>> errors = gradient_check(affine, rng.standard_normal((4, 3)))
    >>> list(errors), max(errors.values()) < 1e-7
    (['x', 'W', 'b'], True)
    """
    x = np.array(x, dtype=np.result_type(np.asarray(x).dtype, np.float32))
    if t is None:
        weights = np.random.default_rng(0).standard_normal(np.shape(layer_or_model.forward(x)))

        def value(_: Any) -> Any:
            return np.sum(layer_or_model.forward(x) * weights)

        dx = layer_or_model.backward(weights)
    else:

        def value(_: Any) -> Any:
            return layer_or_model.forward(x, t)

        value(x)
        dx = layer_or_model.backward()
    params = list(layer_or_model.params)
    computed = {"x": (x, dx)} if dx is not None else {}
    for name, param, grad in zip(_param_names(layer_or_model), params, layer_or_model.grads, strict=True):
        computed[name] = param, np.array(grad)
    return {name: _relative_error(g, numerical_gradient(value, p, h)) for name, (p, g) in computed.items()}


def _param_names(layer_or_model: Any) -> list[str]:
    params = layer_or_model.params
    if hasattr(params, "keys"):
        return list(params.keys())
    names = getattr(layer_or_model, "param_names", ())
    return list(names) if len(names) == len(params) else [f"params[{i}]" for i in range(len(params))]


def _relative_error(a: Array, b: Array) -> float:
    scale = max(np.max(np.abs(a)), np.max(np.abs(b)), np.finfo(np.float32).tiny)
    return float(np.max(np.abs(a - b)) / scale)
