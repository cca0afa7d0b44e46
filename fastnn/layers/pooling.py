import operator

import numpy as np
from numpy.typing import ArrayLike

from .._arrays import Array, as_batch, as_gradient, kernels_for
from .layer import Layer


class _Pooling(Layer):
    """What the two kinds share: windows that slide over each channel of an image."""

    def __init__(self, pool_h: int, pool_w: int, stride: int = 2, pad: int = 0) -> None:
        super().__init__()
        who = type(self).__name__
        for name, value, least in (
            ("pool_h", pool_h, 1),
            ("pool_w", pool_w, 1),
            ("stride", stride, 1),
            ("pad", pad, 0),
        ):
            if not isinstance(value, int | np.integer) or value < least:
                raise ValueError(f"{who}: {name} must be an integer of at least {least}, got {value!r}")
        if pad >= min(pool_h, pool_w):
            raise ValueError(f"{who}: pad must be less than pool_h and pool_w, {pool_h} and {pool_w}, got {pad}")
        self.pool_h, self.pool_w, self.stride, self.pad = map(operator.index, (pool_h, pool_w, stride, pad))

    @property
    def _geometry(self) -> tuple[int, int, int, int]:
        return self.pool_h, self.pool_w, self.stride, self.pad

    def _images(self, x: ArrayLike) -> tuple[Array, tuple[int, ...]]:
        """x as the kernels take it, and the shape of the output."""
        who = type(self).__name__
        x = as_batch(x, who)
        if x.ndim != 4:
            raise ValueError(f"{who}: x must be images of shape (N, C, H, W), got shape {x.shape}")
        N, C, H, W = x.shape
        if H + 2 * self.pad < self.pool_h or W + 2 * self.pad < self.pool_w:
            raise ValueError(
                f"{who}: x must have images of at least {self.pool_h} x {self.pool_w}, padding of {self.pad} included, "
                f"got {H} x {W}"
            )
        out_h = (H + 2 * self.pad - self.pool_h) // self.stride + 1
        out_w = (W + 2 * self.pad - self.pool_w) // self.stride + 1
        return x, (N, C, out_h, out_w)


class Pooling(_Pooling):
    """Maximum over windows of each channel.

    Book 1, sections 7.3 and 7.4.4. Padding is never the maximum (in the book it counts as zeros); of several equal
    maxima the first has the gradient. NaN is greater than all.

    Parameters
    ----------
    pool_h, pool_w : int
        Size of the windows.
    stride : int
        How far apart they are.
    pad : int
        Rows and columns added on each side; less than pool_h and pool_w.

    Raises
    ------
    ValueError
        For sizes that are no integers or too small, or too much padding.

    Examples
    --------
    >>> import numpy as np
    >>> from fastnn.layers import Pooling
    >>> pool = Pooling(2, 2)
    >>> pool.forward(np.array([[[[1.0, 2.0, 0.0, 1.0], [4.0, 3.0, 2.0, 2.0]]]]))
    array([[[[4., 2.]]]])
    >>> pool.backward(np.array([[[[5.0, 6.0]]]]))
    array([[[[0., 0., 0., 0.],
             [5., 0., 6., 0.]]]])
    """

    def forward(self, x: ArrayLike) -> Array:
        """The maximum of each window.

        Parameters
        ----------
        x : array_like
            Images (N, C, H, W).

        Returns
        -------
        ndarray
            (N, C, OH, OW) with OH = (H + 2 · pad - pool_h) // stride + 1, and OW likewise.

        Raises
        ------
        ValueError
            Where x is empty, no images, or they are smaller than a window.
        TypeError
            Where x does not hold real numbers.
        """
        images, shape = self._images(x)
        out = self._outputs.empty_like(images, shape)
        argmax = kernels_for(images).xp.empty(shape, np.min_scalar_type(self.pool_h * self.pool_w - 1))
        kernels_for(images).max_pooling_forward(images, *self._geometry, out, argmax)
        self._saved = argmax, images.shape, images.dtype
        return out

    def backward(self, dout: ArrayLike) -> Array:
        """The gradient for x (N, C, H, W), from that for the output, `dout` (N, C, OH, OW)."""
        argmax, shape, dtype = self._from_forward()
        dout = as_gradient(dout, argmax.shape, type(self).__name__).astype(dtype, copy=False)
        dx = self._input_grads.empty_like(dout, shape)
        kernels_for(dout, argmax).max_pooling_backward(dout, argmax, *self._geometry, dx)
        return dx


class AveragePooling(_Pooling):
    """Mean over windows of each channel; padding counts as zeros.

    Lin, Chen, Yan, arXiv:1312.4400, in place of the last layers: windows as large as the image.

    Parameters
    ----------
    pool_h, pool_w : int
        Size of the windows.
    stride : int
        How far apart they are.
    pad : int
        Rows and columns of zeros added on each side; less than pool_h and pool_w.

    Raises
    ------
    ValueError
        For sizes that are no integers or too small, or too much padding.

    Examples
    --------
    >>> import numpy as np
    >>> from fastnn.layers import AveragePooling
    >>> pool = AveragePooling(2, 2)
    >>> pool.forward(np.array([[[[1.0, 2.0, 0.0, 1.0], [4.0, 5.0, 2.0, 3.0]]]]))
    array([[[[3. , 1.5]]]])
    >>> pool.backward(np.array([[[[4.0, 8.0]]]]))
    array([[[[1., 1., 2., 2.],
             [1., 1., 2., 2.]]]])
    """

    def forward(self, x: ArrayLike) -> Array:
        """The mean of each window; arguments, result and errors as of `Pooling.forward`."""
        images, shape = self._images(x)
        out = self._outputs.empty_like(images, shape)
        kernels_for(images).average_pooling_forward(images, *self._geometry, out)
        self._saved = shape, images.shape, images.dtype
        return out

    def backward(self, dout: ArrayLike) -> Array:
        """The gradient for x (N, C, H, W), from that for the output, `dout` (N, C, OH, OW)."""
        out_shape, shape, dtype = self._from_forward()
        dout = as_gradient(dout, out_shape, type(self).__name__).astype(dtype, copy=False)
        dx = self._input_grads.empty_like(dout, shape)
        kernels_for(dout).average_pooling_backward(dout, *self._geometry, dx)
        return dx
