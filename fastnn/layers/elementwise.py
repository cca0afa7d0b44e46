"""What the layers that act on each element share."""

from numpy.typing import ArrayLike

from .. import config
from .._arrays import AT_ONCE, FLOAT16, FLOAT32, Array, as_batch, as_floats, as_gradient, as_output, kernels_for
from .._device import xp_of
from .layer import Layer


class Elementwise(Layer):
    """A function of each element; its derivative is known from its output, or else from its input."""

    _forward: str  # names of kernels
    _backward: str
    _saves_input = False
    _scalars: tuple[float, ...] = ()  # arguments of both kernels, before the output

    def forward(self, x: ArrayLike, out: Array | None = None) -> Array:
        """Apply the function to each element.

        Parameters
        ----------
        x : array_like
            Any shape, at least one element. Computed in float32 or float64 as given, else in what NumPy promotes
            its dtype and float32 to.
        out : ndarray, optional
            Where the result goes: an array of its shape and dtype. It may be x itself, unless backward needs x.

        Returns
        -------
        ndarray
            Of x's shape: `out`, or memory of the layer's that nobody holds.

        Raises
        ------
        ValueError, TypeError
            Where x is empty or does not hold real numbers, or `out` does not fit.
        """
        who = type(self).__name__
        spare = self._outputs.spare() if out is None and not config.GPU else None
        if spare is not None and AT_ONCE[self._forward](x, *self._scalars, spare):
            self._saved = as_floats(x, who) if self._saves_input else spare
            return spare
        x = as_batch(x, who, halves=not self._saves_input)
        dtype = FLOAT32 if x.dtype is FLOAT16 else x.dtype
        if out is None:
            y = self._outputs.empty_like(x, dtype=dtype)
        else:
            y = as_output(out, x.shape, dtype, who, x)
            if self._saves_input and xp_of(x).may_share_memory(x, y):
                raise ValueError(f"{who}: out must not be x, which backward needs")
        getattr(kernels_for(x), self._forward)(x, *self._scalars, y)
        self._saved = x if self._saves_input else y
        return y

    def backward(self, dout: ArrayLike, out: Array | None = None) -> Array:
        """The gradient for x.

        Parameters
        ----------
        dout : array_like
            Gradient for the output, of its shape.
        out : ndarray, optional
            Where the result goes: an array of that shape and the output's dtype. It may be dout itself.

        Returns
        -------
        ndarray
            Of x's shape.
        """
        saved = self._from_forward()
        spare = self._input_grads.spare() if out is None and not config.GPU else None
        if spare is not None and AT_ONCE[self._backward](dout, saved, *self._scalars, spare):
            return spare
        who = type(self).__name__
        dout = as_gradient(dout, saved.shape, who)
        if dout.dtype is not saved.dtype:
            dout = dout.astype(saved.dtype)
        if out is None:
            dx = self._input_grads.empty_like(saved)
        else:
            dx = as_output(out, saved.shape, saved.dtype, who, dout, saved)
        getattr(kernels_for(saved, dout), self._backward)(dout, saved, *self._scalars, dx)
        return dx
