from typing import Any

from numpy.typing import ArrayLike

from .._arrays import Array, as_batch, as_targets, kernels_for
from .loss import Loss


class MeanSquaredError(Loss):
    """Mean of (x - t)² over all elements: the loss of regression.

    As PyTorch's ``MSELoss``. The book's ``sum_squared_error`` (book 1, section 4.2.1) is half the sum: size / 2 times
    this mean.

    Parameters
    ----------
    factor : float
        What the mean is multiplied by: half the number of outputs makes it half the sum of a sample's squares.

    Attributes
    ----------
    loss : float
        The result of the last ``forward``.

    Examples
    --------
    >>> import numpy as np
    >>> from fastnn.layers import MeanSquaredError
    >>> loss_layer = MeanSquaredError()
    >>> float(loss_layer.forward(np.array([[1.0], [3.0]]), np.array([[0.0], [1.0]])))  # (1 + 4) / 2
    2.5
    >>> loss_layer.backward()
    array([[1.],
           [2.]])
    """

    _kernel = "mean_squared_error"

    def __init__(self, factor: float = 1.0) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, x: ArrayLike, t: ArrayLike) -> Any:
        """The mean over all elements, times the factor.

        Parameters
        ----------
        x : array_like
            Predictions, any shape, at least one element.
        t : array_like
            Targets of x's shape.

        Returns
        -------
        float
            As NumPy's float64.

        Raises
        ------
        ValueError
            For an empty batch, or targets of another shape.
        """
        if self.factor == 1 and (loss := self._forward_at_once(x, t)) is not False:
            return loss
        x = as_batch(x, "MeanSquaredError")
        return self._forward(x, as_targets(t, x, "MeanSquaredError"))

    def _loss_and_gradient(self, x: Array, t: Array, dx: Array) -> Any:
        loss = kernels_for(x).mean_squared_error(x.ravel(), t.ravel(), dx.ravel())
        if self.factor == 1:
            return loss
        dx *= dx.dtype.type(self.factor)
        return loss * self.factor
