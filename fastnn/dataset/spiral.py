"""Three spiral arms that no straight line separates ("Deep Learning from Scratch 2", section 1.4)."""

from typing import Any

import numpy as np


def load_data(seed: int | None = 1984) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Make the spiral data set: 3 classes of 100 points, number for number those of the book.

    Parameters
    ----------
    seed : int or None
        Of a generator of its own. The book seeds NumPy's global generator here; fastnn leaves that alone, so call
        ``np.random.seed(1984)`` yourself to make weights drawn afterwards repeatable.

    Returns
    -------
    x : ndarray (300, 2) float64
        Points, class after class.
    t : ndarray (300, 3) int
        One-hot classes.

    Examples
    --------
    >>> x, t = load_data()
    >>> x.shape, t.shape, t.sum(axis=0)
    ((300, 2), (300, 3), array([100, 100, 100]))
    """
    rng = np.random.RandomState(seed)  # the legacy generator, frozen by NumPy, is the one the book draws from
    n_points, n_classes = 100, 3
    x = np.zeros((n_points * n_classes, 2))
    t = np.zeros((n_points * n_classes, n_classes), dtype=int)
    for j in range(n_classes):
        for i in range(n_points):  # point by point: NumPy's vector sine may round differently from its scalar one
            rate = i / n_points
            radius = 1.0 * rate
            theta = j * 4.0 + 4.0 * rate + rng.randn() * 0.2
            x[n_points * j + i] = radius * np.sin(theta), radius * np.cos(theta)
            t[n_points * j + i, j] = 1
    return x, t
