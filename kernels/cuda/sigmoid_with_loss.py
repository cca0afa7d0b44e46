"""Sigmoid with binary cross-entropy: the loss and its gradient, on a GPU. Sibling: kernels/ref/sigmoid_with_loss.py.

y = 1 / (1 + exp(-x))      dx = (y - t) / size
loss = mean of log(1 + exp(-|x|)) + (x · (1 - t) if x > 0 else -x · t)

x, t, dx: contiguous and of one shape, any number of axes; t in [0, 1], else NaN. Writes dx, returns the loss: float64,
an array of no axes.
"""

from ._elementwise import elementwise_loss


def sigmoid_with_loss(x, t, dx):
    return elementwise_loss("sigmoid_with_loss", dx, x, t)
