import math

from numpy.typing import ArrayLike

from .._arrays import Array, as_real, check_gradient, check_not_empty
from .layer import Layer


class Flatten(Layer):
    """Images, or whatever samples are, as rows: (N, ...) -> (N, D). Views; nothing is copied.

    `Affine` does that by itself; for layers that do not.

    Examples
    --------
    >>> import numpy as np
    >>> from fastnn.layers import Flatten
    >>> flatten = Flatten()
    >>> flatten.forward(np.zeros((10, 3, 4, 4))).shape
    (10, 48)
    >>> flatten.backward(np.zeros((10, 48))).shape
    (10, 3, 4, 4)
    """

    def forward(self, x: ArrayLike) -> Array:
        """(N, ...) -> (N, D), D values a sample."""
        x = as_real(x, "Flatten")
        check_not_empty(x, "Flatten")
        if x.ndim == 0:
            raise ValueError("Flatten: x must have one row per sample, got a scalar")
        self._saved = x.shape
        return x.reshape(len(x), -1)

    def backward(self, dout: ArrayLike) -> Array:
        """(N, D) -> (N, ...)."""
        shape = self._from_forward()
        dout = as_real(dout, "Flatten", "dout")
        check_gradient(dout, (shape[0], math.prod(shape[1:])), "Flatten")
        return dout.reshape(shape)
