"""What a step in one compiled call and one of captured GPU launches share: settings, and a shuffled epoch."""

import operator
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from ._arrays import Array
from ._compilable import WHO
from ._random import random_source
from .errors import CannotCompile
from .optimizer import Optimizer, has_rule


def check_count(where: str, name: str, value: Any, least: int) -> int:
    """An argument as an int, checked to be one of at least that."""
    try:
        value = int(operator.index(value))  # an index may be True
    except TypeError:
        raise TypeError(f"{where}: {name} must be an integer, got {value!r}") from None
    if value < least:
        raise ValueError(f"{where}: {name} must be at least {least}, got {value}")
    return value


def as_order(order: ArrayLike) -> Array:
    """Row numbers in the form that kernels take."""
    rows = np.asarray(order)
    if rows.dtype.kind not in "iu":
        raise TypeError(f"{WHO}: order must hold row numbers, integers, got dtype {rows.dtype}")
    return np.require(rows, np.intp, ["C", "A", "W"])


class TrainingStep:
    """A training step of some kind; `data` and `steps` are its own."""

    def __init__(self, optimizer: Optimizer, max_grad: float | None) -> None:
        if not has_rule(optimizer):
            raise CannotCompile(f"{WHO}: the optimizer must be of fastnn.optimizer, got {type(optimizer).__name__}")
        if max_grad is not None and not max_grad > 0:
            raise ValueError(f"{WHO}: max_grad must be positive or None, got {max_grad}")
        self._optimizer = optimizer
        self._max_norm = 0.0 if max_grad is None else float(max_grad)

    def epoch(self, x: ArrayLike, t: ArrayLike, batch_size: int = 32, rng: Any = None) -> Array:
        """All steps of one shuffled epoch.

        Parameters
        ----------
        x, t : array_like
            All samples and their labels, as for a step.
        batch_size : int
            Samples a step; all, where there are fewer. Samples that do not fill a batch sit the epoch out.
        rng : None, int, numpy.random.Generator or RandomState
            Where the order comes from; None is NumPy's global state.

        Returns
        -------
        ndarray
            (N // batch_size,) float64: the mean loss of each step.
        """
        batch_size = check_count(WHO, "batch_size", batch_size, 1)
        rows, labels = self.data(x, t)
        return self.steps(rows, labels, random_source(rng, WHO).permutation(len(rows)), min(batch_size, len(rows)))

    def data(self, x: ArrayLike, t: ArrayLike) -> tuple[Array, Array]:
        """Samples and labels, checked and converted once, for `steps`."""
        raise NotImplementedError

    def steps(self, x: Array, labels: Array, order: Array, batch_size: int) -> Array:
        """One step for each whole batch of rows of `x` and `labels`, which are as `data` returns them."""
        raise NotImplementedError
