"""What all layers share."""

import functools
import inspect
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from .._arrays import Array, Outputs, as_parameter
from .._device import mover, xp_of

if TYPE_CHECKING:
    from typing_extensions import Self  # of typing, from Python 3.11


def param(index: int) -> Any:
    """A property for ``params[index]``. Assigning exchanges the array: whoever shares the old one keeps it."""

    def get(layer: "Layer") -> Array:
        return layer.params[index]

    def exchange(layer: "Layer", value: ArrayLike) -> None:
        old, name = layer.params[index], layer.param_names[index]
        new = as_parameter(value, type(layer).__name__, name, old.ndim)
        if new.shape != old.shape:
            raise ValueError(f"{type(layer).__name__}: {name} must have shape {old.shape}, got {new.shape}")
        layer.params[index] = new

    return property(get, exchange)


def grad(index: int) -> Any:
    """A read-only property for ``grads[index]``."""
    return property(lambda layer: layer.grads[index])


class Layer:
    """Base of all layers: no parameters, and memory for outputs.

    Attributes
    ----------
    params, grads : list of ndarray
        Parameters, and the gradients that ``backward`` writes into; in the same order, of the same shapes.
    param_names : tuple of str
        What the book calls them.
    state_names : tuple of str
        Attributes that training changes besides: arrays that belong to a saved network.
    """

    param_names: tuple[str, ...] = ()
    state_names: tuple[str, ...] = ()
    forward: Callable[..., Any]
    backward: Callable[..., Any]

    def __init__(self) -> None:
        self.params: list[Array] = []
        self.grads: list[Array] = []
        self._outputs, self._input_grads = Outputs(), Outputs()
        self._saved: Any = None  # what backward needs of forward

    def _add_param(self, value: ArrayLike, ndim: int) -> None:
        p = as_parameter(value, type(self).__name__, self.param_names[len(self.params)], ndim)
        self.params.append(p)
        self.grads.append(xp_of(p).zeros(p.shape, p.dtype))

    def _write_grads(self, kernel: Callable[..., None], dtype: np.dtype[Any]) -> None:
        """kernel(*grads); where it computes in another dtype than theirs, into arrays that are copied from."""
        as_they_are = True
        for p, g in zip(self.params, self.grads, strict=True):
            if g.shape != p.shape:
                who = type(self).__name__
                raise ValueError(f"{who}: grads must have the shapes of params, got {g.shape} for {p.shape}")
            as_they_are &= g.dtype is dtype
        if as_they_are:  # nearly always
            kernel(*self.grads)
            return
        grads = [g if g.dtype is dtype else xp_of(g).empty(g.shape, dtype) for g in self.grads]
        kernel(*grads)
        for kept, computed in zip(self.grads, grads, strict=True):
            if kept is not computed:
                kept[...] = computed

    def to(self, device: str) -> "Self":
        """Move parameters, gradients and what else belongs to a saved network to a device; what they were, stays.

        Parameters
        ----------
        device : {"cpu", "cuda"}

        Returns
        -------
        Layer
            Itself.

        Raises
        ------
        ValueError
            For another device.
        RuntimeError
            For "cuda" where no GPU can be used, saying why.
        """
        self._move(mover(device, type(self).__name__))
        return self

    def _move(self, move: Callable[[Array], Array]) -> None:
        self.params, self.grads = [move(p) for p in self.params], [move(g) for g in self.grads]
        for name in self.state_names:
            setattr(self, name, move(getattr(self, name)))
        self._saved = None

    def _from_forward(self) -> Any:
        if self._saved is None:
            raise RuntimeError(f"{type(self).__name__}: backward needs a forward before it")
        return self._saved


def can_skip_input_gradient(thing: Any) -> bool:
    """Whether the ``backward`` of a layer or a model takes ``input_gradient=False``; a user's own need not."""
    return "input_gradient" in _arguments_of(getattr(thing.backward, "__func__", thing.backward))


def takes_train_flg(kind: Any) -> bool:
    """Whether the ``forward`` of such layers does something else in training than in inference."""
    return "train_flg" in _arguments_of(kind.forward)


@functools.lru_cache
def _arguments_of(function: Callable[..., Any]) -> frozenset[str]:
    """Their names; to find out takes 15 µs."""
    return frozenset(inspect.signature(function).parameters)
