import math
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from .._arrays import Array, as_batch, as_targets, kernels_for
from .._device import on_gpu
from .loss import Loss


class SigmoidWithLoss(Loss):
    """Mean binary cross-entropy of sigmoid(x) against labels, computed from the scores: finite for any finite ones.

    Book 2, section 4.2.3.

    Attributes
    ----------
    loss : float
        The result of the last ``forward``.

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

    _kernel = "sigmoid_with_loss"

    @property
    def y(self) -> Array | None:
        """The probabilities sigmoid(x) of the last ``forward``, computed when asked for, from the x it was given."""
        if self._saved is None:
            return None
        x, _ = self._saved
        y: Array = self._outputs.empty_like(x)
        kernels_for(x).sigmoid_forward(x.ravel(), y.ravel())
        return y

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
        if (loss := self._forward_at_once(x, t)) is not False:
            return loss
        x = as_batch(x, "SigmoidWithLoss")
        return self._forward(x, as_targets(t, x, "SigmoidWithLoss"))

    def _loss_and_gradient(self, x: Array, t: Array, dx: Array) -> Any:
        loss = kernels_for(x).sigmoid_with_loss(x.ravel(), t.ravel(), dx.ravel())
        if not on_gpu(x) and not math.isfinite(loss):  # what wrong labels lead to, among other things
            low, high = np.min(t), np.max(t)
            if not (low >= 0 and high <= 1):
                raise ValueError(f"SigmoidWithLoss: t must lie in [0, 1], got values from {low} to {high}")
        return loss
