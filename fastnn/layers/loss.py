"""What the loss layers share."""

from typing import Any

import numpy as np

from .. import config
from .._arrays import AT_ONCE, Array
from .._device import on_gpu
from .layer import Layer


class Loss(Layer):
    """A layer whose output is one number, the mean loss of a batch; ``forward`` computes its gradient along with it.

    Attributes
    ----------
    loss : float
        The result of the last ``forward``.
    """

    _kernel: str  # its name

    def __init__(self) -> None:
        super().__init__()
        self._dx: Array | None = None  # what the next backward gives away
        self.loss: float | None = None

    def _loss_and_gradient(self, x: Array, t: Array, dx: Array) -> Any:
        """Write the gradient of the loss into dx, and return the loss: a float, or on the GPU an array without axes."""
        raise NotImplementedError

    def _forward_at_once(self, x: Any, t: Any) -> Any:
        """The loss of small arrays that need no checks; else False, and it remains to be computed."""
        self._dx = None
        dx = self._input_grads.spare()
        if dx is None or config.GPU:
            return False
        loss = AT_ONCE[self._kernel](x, t, dx)
        if loss is not False:
            self._saved, self._dx, self.loss = (x, t), dx, (loss := np.float64(loss))
        return loss

    def _forward(self, x: Array, t: Array) -> Any:
        self._saved = self._dx = None
        dx = self._input_grads.empty_like(x)
        loss = self._loss_and_gradient(x, t, dx)
        self.loss = loss = loss if on_gpu(x) else np.float64(loss)  # who wants it from the GPU waits for it
        self._saved, self._dx = (x, t), dx
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
            Of x's shape.
        """
        x, t = self._from_forward()
        dx, self._dx = self._dx, None
        if dx is None:  # whoever has the first may have changed it
            dx = self._input_grads.empty_like(x)
            self._loss_and_gradient(x, t, dx)
        if dout != 1:
            dx *= dx.dtype.type(dout)
        return dx
