from numpy.typing import ArrayLike

from .._arrays import Array, as_batch, as_gradient, kernels_for
from .layer import Layer


class Softmax(Layer):
    """Softmax over the last axis: positive values that sum to 1.

    y_c = exp(x_c) / sum_k exp(x_k). Book 1, section 3.5; book 2, section 1.3.1.

    Examples
    --------
    >>> import numpy as np
    >>> from fastnn.layers import Softmax
    >>> Softmax().forward(np.array([[0.0, np.log(3.0)], [1e4, -1e4]]))
    array([[0.25, 0.75],
           [1.  , 0.  ]])
    """

    def forward(self, x: ArrayLike) -> Array:
        """Probabilities of the classes.

        Parameters
        ----------
        x : array_like
            Scores (..., C).

        Returns
        -------
        ndarray
            (..., C).
        """
        x = as_batch(x, "Softmax")
        if x.ndim == 0:
            raise ValueError("Softmax: x must have scores along its last axis, got a scalar")
        y = self._outputs.empty(x.shape, x.dtype)
        kernels_for(x).softmax_forward(x.reshape(-1, x.shape[-1]), y.reshape(-1, x.shape[-1]))
        self._saved = y
        return y

    def backward(self, dout: ArrayLike) -> Array:
        """The gradient for x, of its shape, from the gradient for the output, of the same shape."""
        y = self._from_forward()
        C = y.shape[-1]
        dout = as_gradient(dout, y.shape, "Softmax").astype(y.dtype, copy=False)
        dx = self._input_grads.empty(y.shape, y.dtype)
        kernels_for(y).softmax_backward(dout.reshape(-1, C), y.reshape(-1, C), dx.reshape(-1, C))
        return dx
