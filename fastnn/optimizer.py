"""Optimizers: ``update(params, grads)`` for lists (book 2) and for mappings by name (book 1)."""

from collections.abc import Mapping, Sequence
from typing import Any

from ._arrays import FLOAT32, FLOAT64, Array, kernels_for
from .kernels import get

__all__ = ["SGD"]


def _pairs(params: Any, grads: Any, who: str) -> list[tuple[Array, Array]]:
    """Each parameter with its gradient, checked to have its shape."""
    named = hasattr(params, "keys")
    if named != hasattr(grads, "keys"):
        raise TypeError(f"{who}: params and grads must both be lists or both be mappings")
    keys = list(params.keys()) if named else range(len(params))
    if not named:
        if len(params) != len(grads):
            raise ValueError(f"{who}: params and grads must be of one length, got {len(params)} and {len(grads)}")
        pairs = list(zip(params, grads, strict=True))
    elif keys == list(grads.keys()):
        pairs = list(zip(params.values(), grads.values(), strict=True))
    elif missing := [key for key in keys if key not in grads]:
        raise ValueError(f"{who}: grads has no {missing[0]!r}")
    else:
        pairs = [(params[key], grads[key]) for key in keys]
    for i, (param, grad) in enumerate(pairs):
        if param.shape != grad.shape:
            key = keys[i]
            raise ValueError(
                f"{who}: grads[{key!r}] must have the shape {param.shape} of params[{key!r}], got {grad.shape}"
            )
    return pairs


def _common_memory(params: Any, grads: Any) -> tuple[Array, Array] | None:
    """The memory of each, where both were allocated in one piece and alike: then one call updates all."""
    memory, grad = getattr(params, "memory", None), getattr(grads, "memory", None)
    return (memory, grad) if memory is not None and grad is not None and params.layout == grads.layout else None


class SGD:
    """Stochastic gradient descent: param <- param - lr · grad, in place.

    Book 1, section 6.1.2; book 2, section 1.3.6.

    Parameters
    ----------
    lr : float
        Learning rate.

    Examples
    --------
    >>> import numpy as np
    >>> from fastnn.optimizer import SGD
    >>> params = {"W": np.array([1.0, 2.0])}
    >>> SGD(lr=0.5).update(params, {"W": np.array([2.0, 2.0])})
    >>> params["W"]
    array([0., 1.])
    """

    def __init__(self, lr: float = 0.01) -> None:
        self.lr = lr

    def update(
        self, params: Sequence[Array] | Mapping[str, Array], grads: Sequence[Array] | Mapping[str, Array]
    ) -> None:
        """Move every parameter a step against its gradient.

        Parameters
        ----------
        params, grads : sequence or mapping of ndarray
            Of the same length or keys, and the same shapes. Gradients stay as they are.

        Raises
        ------
        ValueError
            Where lengths or shapes differ.
        TypeError
            Where one is a mapping and the other is not.
        """
        if (memories := _common_memory(params, grads)) is not None:
            memory, grad = memories
            kernels_for(memory).sgd_update(grad, memory.dtype.type(self.lr), memory)
            return
        dtype = None
        for param, grad in _pairs(params, grads, "SGD"):
            if param.dtype is not dtype:  # mostly once
                dtype = param.dtype
                lr = dtype.type(self.lr)
                known = dtype is FLOAT32 or dtype is FLOAT64
            if known and grad.dtype is dtype and param.flags.carray and grad.flags.carray:
                kernels_for(param).sgd_update(grad.ravel(), lr, param.ravel())  # of views
            else:  # transposed, strided and other arrays are left to NumPy
                get("ref").sgd_update(grad, lr, param)
