"""Helpers for lists of parameters and gradients (book 2, ``common/util.py`` and ``common/trainer.py``)."""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from ._arrays import Array

__all__ = ["clip_grads", "remove_duplicate"]


def clip_grads(grads: Sequence[Array] | Mapping[str, Array], max_norm: float) -> float:
    """Scale all gradients, in place, so that their joint Euclidean norm is at most `max_norm`.

    Book 2, section 6.1.4.

    Returns
    -------
    float
        The norm before.

    Examples
    --------
    >>> import numpy as np
    >>> from fastnn.util import clip_grads
    >>> grads = [np.array([3.0]), np.array([4.0])]
    >>> clip_grads(grads, 1.0)
    5.0
    >>> [float(g[0].round(6)) for g in grads]
    [0.6, 0.8]
    """
    if not max_norm > 0:
        raise ValueError(f"clip_grads: max_norm must be positive, got {max_norm}")
    arrays: Iterable[Array] = grads.values() if isinstance(grads, Mapping) else grads
    arrays = list(arrays)
    norm = math.sqrt(math.fsum(float(np.sum(np.square(g, dtype=np.float64))) for g in arrays))
    rate = max_norm / (norm + 1e-6)
    if rate < 1:
        for g in arrays:
            g *= rate
    return norm


def remove_duplicate(params: Sequence[Array], grads: Sequence[Array]) -> tuple[list[Array], list[Array]]:
    """Parameters without repetition, and their gradients: those of a shared weight are added up.

    Shared is an array that occurs twice, or once as it is and once transposed (``W`` and ``W.T``): the same memory.
    Book 2, ``common/trainer.py``.

    Returns
    -------
    params, grads : list of ndarray
        The arrays themselves; a shared weight's first gradient array holds the sum.

    Examples
    --------
    >>> import numpy as np
    >>> from fastnn.util import remove_duplicate
    >>> W = np.zeros((2, 3))
    >>> params, grads = remove_duplicate([W, W.T], [np.ones((2, 3)), np.ones((3, 2))])
    >>> len(params), float(grads[0][0, 0])
    (1, 2.0)
    """
    seen: dict[tuple[Any, ...], tuple[int, tuple[int, ...]]] = {}
    kept_params: list[Array] = []
    kept_grads: list[Array] = []
    for p, g in zip(params, grads, strict=True):
        # The same memory read along the same steps, in whatever order of axes.
        key = (p.__array_interface__["data"][0], p.dtype, *sorted(zip(p.strides, p.shape, strict=True)))
        if key not in seen:
            seen[key] = len(kept_params), p.strides
            kept_params.append(p)
            kept_grads.append(g)
        else:
            first, strides = seen[key]
            kept_grads[first] += g if p.strides == strides else g.T
    return kept_params, kept_grads
