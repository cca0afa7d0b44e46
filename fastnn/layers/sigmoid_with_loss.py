from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from .._arrays import Array, as_batch, as_floats, kernels_for
from .loss import Loss


class SigmoidWithLoss(Loss):
    """Mean binary cross-entropy of sigmoid(x) against labels, computed from the scores: finite for any finite ones.

    Book 2, section 4.2.3.

    Attributes
    ----------
    y : ndarray
        The probabilities sigmoid(x) of the last ``forward``.
    loss : float
        Its result.

    Examples
    --------
    >>> import numpy as np
    >>> from fastnn.layers import SigmoidWithLoss
    >>> loss_layer = SigmoidWithLoss()
    >>> round(float(loss_layer.forward(np.array([0.0, 1e4]), np.array([1, 1]))), 4)  # log(2) / 2
    0.3466
    >>> loss_layer.backward()
    array([-0.25,  0.  ])
    """

    def forward(self, x: ArrayLike, t: ArrayLike) -> Any:
        """The mean loss over all elements.

        Parameters
        ----------
        x : array_like
            Scores, any shape.
        t : array_like
            Labels of x's shape: 0 and 1, or probabilities between.

        Returns
        -------
        float
            As NumPy's float64.

        Raises
        ------
        ValueError
            For an empty batch, or labels of another shape or outside [0, 1].
        """
        x = as_batch(x, "SigmoidWithLoss")
        t = as_floats(t, "SigmoidWithLoss", "t")
        if t.shape != x.shape:
            raise ValueError(f"SigmoidWithLoss: t must have the shape {x.shape} of x, got {t.shape}")
        low, high = np.minimum.reduce(t, axis=None), np.maximum.reduce(t, axis=None)
        if not (low >= 0 and high <= 1):
            raise ValueError(f"SigmoidWithLoss: t must lie in [0, 1], got values from {low} to {high}")
        t = t.astype(x.dtype, copy=False)
        y, nll = self._outputs.empty(x.shape, x.dtype), self._losses.empty(x.shape, x.dtype)
        kernels_for(x).sigmoid_with_loss_forward(x, t, y, nll)
        self.y, self._saved = y, (y, t)
        self.loss = np.add.reduce(nll, axis=None, dtype=np.float64) / nll.size
        return self.loss

    def backward(self, dout: float = 1.0) -> Array:
        """The gradient for x, of its shape, from the gradient `dout` for the loss."""
        y, t = self._from_forward()
        dx = self._input_grads.empty(y.shape, y.dtype)
        kernels_for(y).sigmoid_with_loss_backward(y, t, y.dtype.type(dout / y.size), dx)
        return dx
