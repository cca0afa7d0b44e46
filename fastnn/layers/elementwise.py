"""What the layers that act on each element share."""

from numpy.typing import ArrayLike

from .._arrays import Array, as_batch, as_gradient, kernels_for
from .layer import Layer


class Elementwise(Layer):
    """A function of each element whose derivative is known from its output."""

    _forward: str  # names of kernels
    _backward: str

    def forward(self, x: ArrayLike) -> Array:
        """Apply the function to each element.

        Parameters
        ----------
        x : array_like
            Any shape, at least one element. Computed in float32 or float64 as given, else in what NumPy promotes
            its dtype and float32 to.

        Returns
        -------
        ndarray
            Of x's shape.
        """
        x = as_batch(x, type(self).__name__)
        y = self._outputs.empty(x.shape, x.dtype)
        getattr(kernels_for(x), self._forward)(x.ravel(), y.ravel())  # views: kernels compile for one axis only
        self._saved = y
        return y

    def backward(self, dout: ArrayLike) -> Array:
        """The gradient for x.

        Parameters
        ----------
        dout : array_like
            Gradient for the output, of its shape.

        Returns
        -------
        ndarray
            Of x's shape.
        """
        y = self._from_forward()
        dout = as_gradient(dout, y.shape, type(self).__name__).astype(y.dtype, copy=False)
        dx = self._input_grads.empty(y.shape, y.dtype)
        getattr(kernels_for(y), self._backward)(dout.ravel(), y.ravel(), dx.ravel())
        return dx
