import math
from typing import Any

from numpy.typing import ArrayLike

from .. import config
from .._arrays import AT_ONCE, Array, Outputs, as_batch, as_gradient, as_operands, kernels_for
from .layer import Layer, grad, param


class MatMul(Layer):
    """Matrix product x·W.

    Book 2, section 1.3.4.

    Parameters
    ----------
    W : array_like
        Weights (D, F). A float32 or float64 array is used as it is, not copied: layers may share it.

    Attributes
    ----------
    W, dW : ndarray
        ``params[0]`` and ``grads[0]``.

    Raises
    ------
    ValueError, TypeError
        Where W is not a non-empty matrix of real numbers.

    Examples
    --------
    >>> import numpy as np
    >>> from fastnn.layers import MatMul
    >>> layer = MatMul(np.array([[1.0, 0.0, 2.0], [0.0, 1.0, 3.0]]))
    >>> layer.forward(np.array([[1.0, 2.0]]))
    array([[1., 2., 8.]])
    >>> layer.backward(np.array([[1.0, 1.0, 1.0]]))
    array([[3., 4.]])
    >>> layer.dW
    array([[1., 1., 1.],
           [2., 2., 2.]])
    """

    param_names: tuple[str, ...] = ("W",)
    _forward, _backward_params, _backward_input = "matmul_forward", "matmul_backward_params", "matmul_backward_input"
    W, dW = param(0), grad(0)

    def __init__(self, W: ArrayLike) -> None:
        super().__init__()
        self._add_param(W, ndim=2)

    def forward(self, x: ArrayLike) -> Array:
        """Multiply each sample by the weights (and add the bias, where there is one).

        Parameters
        ----------
        x : array_like
            (..., D): the leading axes are the batch, none for one sample. Or (N, ...) whose trailing axes hold D
            values, such as images: they are flattened. Computed in the widest dtype of x and the parameters.

        Returns
        -------
        ndarray
            (..., F).

        Raises
        ------
        ValueError
            Where x is empty or fits W neither way.
        TypeError
            Where x does not hold real numbers.
        """
        return self._multiply(x, self._forward, self._outputs)

    def _multiply(self, x: Any, kernel: str, outputs: Outputs) -> Array:
        spare = None if config.GPU else outputs.spare()
        if spare is not None and AT_ONCE[kernel](x, *self.params, spare):
            self._saved = x, (shape := x.shape), shape[:1]
            return spare
        x = as_batch(x, type(self).__name__)
        rows, lead = self._as_rows(x)
        operands = as_operands(rows, *self.params)
        rows = operands[0]
        out = outputs.empty_like(rows, (rows.shape[0], operands[1].shape[1]))
        getattr(kernels_for(rows), kernel)(*operands, out)
        self._saved = rows, x.shape, lead
        return out if len(lead) == 1 else out.reshape(*lead, -1)

    def backward(self, dout: ArrayLike, input_gradient: bool = True) -> Array | None:
        """The gradient for x; those for the parameters go into ``grads``.

        Parameters
        ----------
        dout : array_like
            Gradient for the output, of its shape.
        input_gradient : bool
            False where nobody needs the gradient for x, which costs as much as those for the parameters.

        Returns
        -------
        ndarray
            Of the shape of forward's x. None without `input_gradient`.
        """
        _, shape, _ = self._from_forward()
        rows, x, W = self._differentiate(dout)
        if not input_gradient:
            return None
        dx = self._input_gradient(self._backward_input, rows, W, x)
        return dx if dx.shape == shape else dx.reshape(shape)

    def _differentiate(self, dout: Any) -> tuple[Array, ...]:
        """The gradients for the parameters; returns dout by rows, x and W."""
        x, _, lead = self._from_forward()
        W = self.params[0]
        if len(lead) == 1 and not config.GPU and AT_ONCE[self._backward_params](x, dout, *self.grads):
            return dout, x, W
        rows = as_gradient(dout, (*lead, W.shape[1]), type(self).__name__)
        if rows.ndim != 2:
            rows = rows.reshape(-1, W.shape[1])
        rows, x, W = as_operands(rows, x, W)
        backward_params = getattr(kernels_for(rows), self._backward_params)
        self._write_grads(lambda *grads: backward_params(x, rows, *grads), x.dtype)
        return rows, x, W

    def _input_gradient(self, kernel: str, dout: Array, W: Array, x: Array, *outputs: Array) -> Array:
        """What a kernel makes of what `_differentiate` returned, and of the `outputs` of an activation before."""
        dx = None if config.GPU else self._input_grads.spare()
        if dx is None or not AT_ONCE[kernel](dout, W, *outputs, dx):
            dx = self._input_grads.empty_like(x)
            getattr(kernels_for(dout), kernel)(*as_operands(dout, W), *outputs, dx)
        return dx

    def _as_rows(self, x: Array) -> tuple[Array, tuple[int, ...]]:
        """x as (samples, D), and the shape of its batch axes."""
        D = self.params[0].shape[0]
        shape = x.shape
        if shape and shape[-1] == D:
            return (x, shape[:1]) if len(shape) == 2 else (x.reshape(-1, D), shape[:-1])
        for batch_axes in (*range(1, x.ndim), 0):  # one batch axis, as the book has it, before none or several
            if math.prod(x.shape[batch_axes:]) == D:
                return x.reshape(-1, D), x.shape[:batch_axes]
        raise ValueError(
            f"{type(self).__name__}: x must have {D} values a sample to fit W of shape {self.params[0].shape}, "
            f"got shape {x.shape}"
        )
