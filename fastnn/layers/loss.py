"""What the loss layers share."""

from .._arrays import Array, Outputs
from .layer import Layer


class Loss(Layer):
    """A layer whose output is one number, the mean loss of a batch.

    Attributes
    ----------
    y : ndarray
        The probabilities of the last ``forward``.
    loss : float
        Its result.
    """

    def __init__(self) -> None:
        super().__init__()
        self._losses = Outputs()
        self.y: Array | None = None
        self.loss: float | None = None
