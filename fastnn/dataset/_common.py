"""What the image data sets share: the three switches of the book's `load_mnist`."""

from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]
Split = tuple[Array, Array]


def one_hot(labels: Array, classes: int = 10) -> Array:
    """(N,) ints -> (N, classes) float32; the book's float64 would promote a float32 network's gradients.

    >>> one_hot(np.array([1, 0]), classes=3)
    array([[0., 1., 0.],
           [1., 0., 0.]], dtype=float32)
    """
    t = np.zeros((len(labels), classes), dtype=np.float32)
    t[np.arange(len(labels)), labels] = 1
    return t


def prepare(images: Array, labels: Array, peak: int, *, normalize: bool, flatten: bool, one_hot_label: bool) -> Split:
    """Images (N, H, W) uint8 in 0..peak and labels (N,) uint8, in the form the caller of a loader asked for."""
    n, height, width = images.shape
    x = images.reshape(n, height * width) if flatten else images.reshape(n, 1, height, width)
    if normalize:
        x = x.astype(np.float32)
        x /= peak
    return x, one_hot(labels) if one_hot_label else labels
