"""Where random numbers come from."""

import operator
from itertools import pairwise
from typing import Any

import numpy as np

from . import kernels

_COMPILED_FROM = 8  # permutations at a time: those who need fewer do not wait for the compiler


class _GlobalState:
    """NumPy's global state: the functions of ``np.random``.

    Its copies are itself; a module can be neither copied nor pickled, nor could layers and trainers that had it.
    """

    def __getattr__(self, name: str) -> Any:
        return getattr(np.random, name)

    def __reduce__(self) -> str:
        return "_GLOBAL_STATE"


_GLOBAL_STATE = _GlobalState()


def random_source(rng: Any, who: str) -> Any:
    """What `rng` stands for: None NumPy's global state, as in the book; an int a new Generator; else rng itself."""
    if rng is None or rng is np.random:
        return _GLOBAL_STATE
    if isinstance(rng, np.random.Generator | np.random.RandomState | _GlobalState):
        return rng
    try:
        return np.random.default_rng(operator.index(rng))
    except (TypeError, ValueError):
        raise TypeError(
            f"{who}: rng must be a numpy Generator, a RandomState, an integer >= 0 or None, got {rng!r}"
        ) from None


def shuffles(rng: Any, orders: np.ndarray[Any, Any]) -> None:
    """Write to each row of `orders` but the first the row before it, in the order of ``rng.permutation``."""
    if rng is _GLOBAL_STATE and len(orders) > _COMPILED_FROM:
        kernels.get("cpu").shuffles(rng.get_bit_generator(), orders)
        return
    for before, after in pairwise(orders):
        after[...] = before[rng.permutation(len(before))]
