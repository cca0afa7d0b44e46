from .elementwise import Elementwise


class LeakyRelu(Elementwise):
    """Rectified linear unit with a slope on its left, too: alpha · x where x < 0, else x; at 0 the gradient is alpha.

    A. Maas, A. Hannun, A. Ng, "Rectifier nonlinearities improve neural network acoustic models" (2013).

    Parameters
    ----------
    alpha : float
        The slope, at least 0.

    Raises
    ------
    ValueError
        Where alpha is negative or not a finite number.

    Examples
    --------
    >>> import numpy as np
    >>> from fastnn.layers import LeakyRelu
    >>> layer = LeakyRelu(alpha=0.5)
    >>> layer.forward(np.array([3.0, -4.0]))
    array([ 3., -2.])
    >>> layer.backward(np.ones(2))
    array([1. , 0.5])
    """

    _forward, _backward = "leaky_relu_forward", "leaky_relu_backward"

    def __init__(self, alpha: float = 0.01) -> None:
        super().__init__()
        self.alpha = checked_slope(alpha, "LeakyRelu")
        self._scalars = (self.alpha,)


def checked_slope(alpha: float, who: str) -> float:
    """`alpha` as a float; backward derives the sign of x from that of the output, so it must not be negative."""
    if not 0 <= alpha < float("inf"):
        raise ValueError(f"{who}: alpha must be a finite number of at least 0, got {alpha!r}")
    return float(alpha)
