import math
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from .._arrays import Array, as_batch, as_labels_unread, check_labels, kernels_for
from .loss import Loss


class SoftmaxWithLoss(Loss):
    """Mean cross-entropy of softmax(x) against labels, by log-sum-exp: finite for any finite scores.

    Book 1, section 5.6.3; book 2, section 1.3.1.

    Attributes
    ----------
    y : ndarray
        The probabilities softmax(x) of the last ``forward``.
    loss : float
        Its result.

    Examples
    --------
    >>> import numpy as np
    >>> from fastnn.layers import SoftmaxWithLoss
    >>> loss_layer = SoftmaxWithLoss()
    >>> x = np.array([[0.0, np.log(3.0)], [1e4, -1e4]])
    >>> round(float(loss_layer.forward(x, np.array([1, 0]))), 4)  # -log(0.75) / 2
    0.1438
    >>> loss_layer.backward()
    array([[ 0.125, -0.125],
           [ 0.   ,  0.   ]])
    """

    def forward(self, x: ArrayLike, t: ArrayLike) -> Any:
        """The mean loss over all samples.

        Parameters
        ----------
        x : array_like
            Scores (..., C).
        t : array_like
            Class indices (...) of any integer dtype, or one-hot or soft labels (..., C).

        Returns
        -------
        float
            As NumPy's float64.

        Raises
        ------
        ValueError
            For an empty batch, labels of another shape or out of range, or not finite.
        TypeError
            For class indices that are not integers.
        """
        x = as_batch(x, "SoftmaxWithLoss")
        if x.ndim == 0:
            raise ValueError("SoftmaxWithLoss: x must have scores along its last axis, got a scalar")
        labels = as_labels_unread(t, x, "SoftmaxWithLoss")
        y = self._outputs.empty(x.shape, x.dtype)
        rows = _rows(x)
        nll = self._losses.empty(rows.shape[:1], x.dtype)
        loss = np.float64(kernels_for(x).softmax_with_loss_forward(rows, labels, _rows(y), nll))
        if not math.isfinite(loss):  # what wrong labels lead to, among other things
            check_labels(labels, x.shape[-1], "SoftmaxWithLoss")
        self.y, self._saved, self.loss = y, (y, labels), loss
        return loss

    def backward(self, dout: float = 1.0) -> Array:
        """The gradient for x.

        Parameters
        ----------
        dout : float
            Gradient for the loss.

        Returns
        -------
        ndarray
            (..., C), of x's shape.
        """
        y, t = self._from_forward()
        rows = _rows(y)
        dx = self._input_grads.empty(y.shape, y.dtype)
        scale = y.dtype.type(dout / rows.shape[0])
        kernels_for(y).softmax_with_loss_backward(rows, t, scale, _rows(dx))
        return dx


def _rows(x: Array) -> Array:
    """x as (N, C)."""
    return x if x.ndim == 2 else x.reshape(-1, x.shape[-1])
