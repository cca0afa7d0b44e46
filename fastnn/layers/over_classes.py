"""What the layers share that act on the scores of classes, along the last axis."""

from numpy.typing import ArrayLike

from .._arrays import Array, as_gradient, as_scores, kernels_for
from .layer import Layer


class OverClasses(Layer):
    """A function of the last axis whose derivative is known from its output."""

    _forward: str  # names of kernels
    _backward: str

    def forward(self, x: ArrayLike) -> Array:
        """Apply the function to the scores of each sample.

        Parameters
        ----------
        x : array_like
            Scores (..., C), at least one. Computed in float32 or float64 as given, else in what NumPy promotes its
            dtype and float32 to.

        Returns
        -------
        ndarray
            (..., C).
        """
        x = as_scores(x, type(self).__name__)
        C = x.shape[-1]
        y = self._outputs.empty_like(x)
        getattr(kernels_for(x), self._forward)(x.reshape(-1, C), y.reshape(-1, C))
        self._saved = y
        return y

    def backward(self, dout: ArrayLike) -> Array:
        """The gradient for x, of its shape, from the gradient for the output, of the same shape."""
        y = self._from_forward()
        C = y.shape[-1]
        dout = as_gradient(dout, y.shape, type(self).__name__).astype(y.dtype, copy=False)
        dx = self._input_grads.empty_like(y)
        getattr(kernels_for(y, dout), self._backward)(dout.reshape(-1, C), y.reshape(-1, C), dx.reshape(-1, C))
        return dx
