from numpy.typing import ArrayLike

from .._arrays import Array
from .layer import grad, param
from .matmul import MatMul
from .relu import Relu
from .sigmoid import Sigmoid


class Affine(MatMul):
    """Fully connected layer: x·W + b.

    Book 1, section 5.6; book 2, section 1.3.5.

    Parameters
    ----------
    W : array_like
        Weights (D, F). A float32 or float64 array is used as it is, not copied: layers may share it.
    b : array_like
        Bias (F,), likewise.

    Attributes
    ----------
    W, b, dW, db : ndarray
        ``params`` and ``grads`` by the names of book 1.

    Raises
    ------
    ValueError, TypeError
        Where W is not a non-empty matrix of real numbers, or b not a vector with a value for each of its columns.

    Examples
    --------
    >>> import numpy as np
    >>> from fastnn.layers import Affine
    >>> affine = Affine(np.array([[1.0, 0.0, 2.0], [0.0, 1.0, 3.0]]), np.array([10.0, 20.0, 30.0]))
    >>> affine.forward(np.array([[1.0, 2.0], [0.0, 0.0]]))
    array([[11., 22., 38.],
           [10., 20., 30.]])
    >>> affine.backward(np.ones((2, 3)))
    array([[3., 4.],
           [3., 4.]])
    >>> affine.db
    array([2., 2., 2.])
    """

    param_names = ("W", "b")
    _forward, _backward_params, _backward_input = "affine_forward", "affine_backward_params", "affine_backward_input"
    b, db = param(1), grad(1)

    def __init__(self, W: ArrayLike, b: ArrayLike) -> None:
        super().__init__(W)
        self._add_param(b, ndim=1)
        W, b = self.params
        if b.shape != W.shape[1:]:
            raise ValueError(f"Affine: b must have shape {W.shape[1:]} to fit W of shape {W.shape}, got {b.shape}")

    def forward_activated(self, x: ArrayLike, activation: Relu | Sigmoid) -> Array:
        """``activation.forward(self.forward(x))`` in one pass; both are ready for backward."""
        y = self._multiply(x, activation.after_affine, activation._outputs)
        activation._saved = y
        return y

    def follows(self, activation: Relu | Sigmoid) -> bool:
        """Whether the input of the last forward was the output of `activation`."""
        return self._saved is not None and self._saved[0] is activation._saved

    def backward_activated(self, dout: ArrayLike, activation: Relu | Sigmoid) -> Array:
        """``activation.backward(self.backward(dout))`` in one pass, where this layer follows `activation`."""
        rows, y, W = self._differentiate(dout)
        return self._input_gradient(activation.before_affine, rows, W, y, y)
