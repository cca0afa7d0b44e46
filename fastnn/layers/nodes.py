"""The nodes of computational graphs with which the books explain back-propagation."""

from typing import Any

from numpy.typing import ArrayLike

from .._arrays import as_array
from .layer import Layer


class MulLayer(Layer):
    """Product of two numbers or arrays. Book 1, section 5.4.1.

    Examples
    --------
    >>> from fastnn.layers import MulLayer
    >>> apples = MulLayer()
    >>> apples.forward(100, 2)
    200
    >>> apples.backward(1.1)
    (2.2, 110.00000000000001)
    """

    def forward(self, x: Any, y: Any) -> Any:
        """x · y."""
        self._saved = x, y
        return x * y

    def backward(self, dout: Any) -> tuple[Any, Any]:
        """The gradients for x and y: dout · y and dout · x."""
        x, y = self._from_forward()
        return dout * y, dout * x


class AddLayer(Layer):
    """Sum of two numbers or arrays. Book 1, section 5.4.2.

    Examples
    --------
    >>> from fastnn.layers import AddLayer
    >>> total = AddLayer()
    >>> total.forward(200, 450)
    650
    >>> total.backward(1.1)
    (1.1, 1.1)
    """

    def forward(self, x: Any, y: Any) -> Any:
        """x + y."""
        return x + y

    def backward(self, dout: Any) -> tuple[Any, Any]:
        """The gradients for x and y: dout for both."""
        return dout, dout


class Repeat(Layer):
    """N copies of x along its first axis. Book 2, section 1.3.4.

    Parameters
    ----------
    N : int
        How many.

    Examples
    --------
    >>> import numpy as np
    >>> from fastnn.layers import Repeat
    >>> repeat = Repeat(3)
    >>> repeat.forward(np.array([[1.0, 2.0]]))
    array([[1., 2.],
           [1., 2.],
           [1., 2.]])
    >>> repeat.backward(np.ones((3, 2)))
    array([[3., 3.]])
    """

    def __init__(self, N: int) -> None:
        super().__init__()
        if N < 1:
            raise ValueError(f"Repeat: N must be at least 1, got {N}")
        self.N = N

    def forward(self, x: ArrayLike) -> Any:
        """(1, D) -> (N, D)."""
        x = as_array(x, "Repeat", "x")
        if x.ndim == 0 or x.shape[0] != 1:
            raise ValueError(f"Repeat: x must have shape (1, ...), got {x.shape}")
        return x.repeat(self.N, axis=0)

    def backward(self, dout: ArrayLike) -> Any:
        """(N, D) -> (1, D): the copies' gradients add up."""
        return as_array(dout, "Repeat", "dout").sum(axis=0, keepdims=True)


class Sum(Layer):
    """Sum over the first axis, which stays with length 1: the counterpart of `Repeat`. Book 2, section 1.3.4.

    Examples
    --------
    >>> import numpy as np
    >>> from fastnn.layers import Sum
    >>> total = Sum()
    >>> total.forward(np.array([[1.0, 2.0], [3.0, 4.0]]))
    array([[4., 6.]])
    >>> total.backward(np.array([[1.0, 2.0]]))
    array([[1., 2.],
           [1., 2.]])
    """

    def forward(self, x: ArrayLike) -> Any:
        """(N, D) -> (1, D)."""
        x = as_array(x, "Sum", "x")
        if x.ndim == 0 or x.shape[0] == 0:
            raise ValueError(f"Sum: x must have at least one row, got shape {x.shape}")
        self._saved = x.shape[0]
        return x.sum(axis=0, keepdims=True)

    def backward(self, dout: ArrayLike) -> Any:
        """(1, D) -> (N, D): each row gets the sum's gradient."""
        return as_array(dout, "Sum", "dout").repeat(self._from_forward(), axis=0)
