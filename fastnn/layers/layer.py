"""What all layers share."""

import inspect
from collections.abc import Callable
from typing import Any

from .._arrays import Array, Outputs


class Layer:
    """Base of all layers: no parameters, and memory for outputs.

    Attributes
    ----------
    params, grads : list of ndarray
        Parameters, and the gradients that ``backward`` writes into; in the same order, of the same shapes.
    param_names : tuple of str
        What the book calls them.
    """

    param_names: tuple[str, ...] = ()
    forward: Callable[..., Any]
    backward: Callable[..., Any]

    def __init__(self) -> None:
        self.params: list[Array] = []
        self.grads: list[Array] = []
        self._outputs, self._input_grads = Outputs(), Outputs()
        self._saved: Any = None  # what backward needs of forward

    def _from_forward(self) -> Any:
        if self._saved is None:
            raise RuntimeError(f"{type(self).__name__}: backward needs a forward before it")
        return self._saved


def can_skip_input_gradient(thing: Any) -> bool:
    """Whether the ``backward`` of a layer or a model takes ``input_gradient=False``; a user's own need not."""
    return "input_gradient" in inspect.signature(thing.backward).parameters
