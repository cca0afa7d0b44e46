import operator

from numpy.typing import ArrayLike

from .._arrays import Array, Outputs, as_batch, as_gradient, in_one_dtype, kernels_for
from .layer import Layer, grad, param
from .relu import Relu


class Convolution(Layer):
    """Convolution of images: each filter slides over the image, and is multiplied with what lies under it.

    Book 1, section 7.4.

    Parameters
    ----------
    W : array_like
        Filters (F, C / groups, KH, KW). A float32 or float64 array is used as it is, not copied.
    b : array_like
        Bias (F,), likewise.
    stride : int or pair of int
        Steps of the filters; of a pair the first is vertical.
    pad : int or pair of int
        Rows and columns of zeros on each side of the image.
    dilation : int or pair of int
        From one element of a filter to the next, measured on the image.
    groups : int
        So many equal parts have the channels and the filters: each part of the filters sees its part of the channels.

    Attributes
    ----------
    W, b, dW, db : ndarray
        ``params`` and ``grads`` by the names of book 1.
    x : ndarray or None
        Input of the last forward.
    stride, pad, dilation : tuple of int
        (vertical, horizontal).
    groups : int

    Raises
    ------
    ValueError, TypeError
        Where the arguments do not make a convolution.

    Examples
    --------
    >>> import numpy as np
    >>> from fastnn.layers import Convolution
    >>> edges = Convolution(np.array([[[[-1.0, 1.0]]]]), np.array([10.0]))
    >>> edges.forward(np.array([[[[0.0, 1.0, 3.0], [5.0, 5.0, 4.0]]]]))
    array([[[[11., 12.],
             [10.,  9.]]]])
    >>> edges.backward(np.ones((1, 1, 2, 2)))
    array([[[[-1.,  0.,  1.],
             [-1.,  0.,  1.]]]])
    >>> edges.db
    array([4.])
    """

    param_names = ("W", "b")
    W, b, dW, db = param(0), param(1), grad(0), grad(1)

    def __init__(
        self,
        W: ArrayLike,
        b: ArrayLike,
        stride: int | tuple[int, int] = 1,
        pad: int | tuple[int, int] = 0,
        dilation: int | tuple[int, int] = 1,
        groups: int = 1,
    ) -> None:
        super().__init__()
        self._add_param(W, ndim=4)
        self._add_param(b, ndim=1)
        W, b = self.params
        self.stride = _as_pair(stride, "stride", at_least=1)
        self.pad = _as_pair(pad, "pad", at_least=0)
        self.dilation = _as_pair(dilation, "dilation", at_least=1)
        self.groups = operator.index(groups)
        if b.shape != W.shape[:1]:
            raise ValueError(f"Convolution: b must have shape {W.shape[:1]} to fit W of shape {W.shape}, got {b.shape}")
        if self.groups < 1 or len(W) % self.groups:
            raise ValueError(f"Convolution: groups must divide the {len(W)} filters of W, got {groups}")

    @property
    def x(self) -> Array | None:
        return None if self._saved is None else self._saved[0]

    def forward(self, x: ArrayLike) -> Array:
        """Convolve each image with all filters, and add the bias.

        Parameters
        ----------
        x : array_like
            Images (N, C, H, W). Computed in the widest dtype of x and the parameters.

        Returns
        -------
        ndarray
            (N, F, OH, OW), where OH = (H + 2·pad - dilation·(KH - 1) - 1) // stride + 1, and OW likewise.

        Raises
        ------
        ValueError
            Where x is empty, has other channels than W, or is smaller, padded, than a filter.
        TypeError
            Where x does not hold real numbers.
        """
        return self._convolve(x, "convolution_forward", self._outputs)

    def forward_activated(self, x: ArrayLike, activation: Relu) -> Array:
        """``activation.forward(self.forward(x))`` in one pass; both are ready for backward."""
        y = self._convolve(x, "convolution_relu_forward", activation._outputs)
        activation._saved = y
        return y

    def _convolve(self, x: ArrayLike, kernel: str, outputs: Outputs) -> Array:
        x = as_batch(x, "Convolution")
        W, b = self.params
        channels = self.groups * W.shape[1]
        if x.ndim != 4 or x.shape[1] != channels:
            raise ValueError(
                f"Convolution: x must be images (N, {channels}, H, W) to fit W of shape {W.shape}"
                f"{f' in {self.groups} groups' if self.groups > 1 else ''}, got shape {x.shape}"
            )
        out_shape = len(x), len(W), *self._out_size(x.shape[2:])
        if b.shape != W.shape[:1]:
            raise ValueError(f"Convolution: b must have shape {W.shape[:1]} to fit W of shape {W.shape}, got {b.shape}")
        x, W, b = in_one_dtype(x, W, b)
        out = outputs.empty_like(x, out_shape)
        getattr(kernels_for(x, W), kernel)(x, W, b, self.stride, self.pad, self.dilation, out)
        self._saved = x, out_shape
        return out

    def _out_size(self, size: tuple[int, ...]) -> tuple[int, ...]:
        kernel = self.params[0].shape[2:]
        spans = tuple(dilation * (k - 1) + 1 for k, dilation in zip(kernel, self.dilation, strict=True))
        padded = tuple(n + 2 * pad for n, pad in zip(size, self.pad, strict=True))
        if spans[0] > padded[0] or spans[1] > padded[1]:
            raise ValueError(
                f"Convolution: x must be at least as large, padded, as the {spans} that a filter spans, "
                f"got {size} and pad {self.pad}"
            )
        return tuple((n - span) // stride + 1 for n, span, stride in zip(padded, spans, self.stride, strict=True))

    def backward(self, dout: ArrayLike, input_gradient: bool = True) -> Array | None:
        """The gradient for x; those for the parameters go into ``grads``.

        Parameters
        ----------
        dout : array_like
            Gradient for the output, of its shape.
        input_gradient : bool
            False where nobody needs the gradient for x.

        Returns
        -------
        ndarray
            Of x's shape. None without `input_gradient`.
        """
        x, out_shape = self._from_forward()
        dout, x, W = in_one_dtype(as_gradient(dout, out_shape, "Convolution"), x, self.params[0])
        k = kernels_for(x, dout)
        geometry = self.stride, self.pad, self.dilation
        self._write_grads(lambda *grads: k.convolution_backward_params(x, dout, *geometry, *grads), x.dtype)
        if not input_gradient:
            return None
        dx = self._input_grads.empty_like(x)
        k.convolution_backward_input(dout, W, *geometry, dx)
        return dx


def _as_pair(value: int | tuple[int, int], name: str, at_least: int) -> tuple[int, int]:
    try:
        pair = tuple(map(operator.index, value)) if isinstance(value, tuple | list) else (operator.index(value),) * 2
    except TypeError:
        pair = ()
    if len(pair) != 2 or min(pair) < at_least:
        raise ValueError(f"Convolution: {name} must be an int, or a pair, of at least {at_least}, got {value!r}")
    return pair
