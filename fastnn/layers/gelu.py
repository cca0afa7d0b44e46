from .elementwise import Elementwise


class Gelu(Elementwise):
    """Gaussian error linear unit: x · P(X <= x) of a standard normal X.

    D. Hendrycks, K. Gimpel, "Gaussian error linear units", arXiv:1606.08415 (2016).

    Parameters
    ----------
    approximate : {"none", "tanh"}
        How P is computed: ``"none"`` by the error function, ``"tanh"`` as
        (1 + tanh(√(2/π) · (x + 0.044715 · x³))) / 2.

    Raises
    ------
    ValueError
        For another value.

    Examples
    --------
    >>> import numpy as np
    >>> from fastnn.layers import Gelu
    >>> gelu = Gelu()
    >>> gelu.forward(np.array([-1.0, 0.0, 1.0])).round(4)
    array([-0.1587,  0.    ,  0.8413])
    >>> gelu.backward(np.ones(3)).round(4)
    array([-0.0833,  0.5   ,  1.0833])
    """

    _saves_input = True

    def __init__(self, approximate: str = "none") -> None:
        super().__init__()
        self.approximate = approximate
        self._forward = f"{gelu_kernel(approximate, 'Gelu')}_forward"
        self._backward = f"{gelu_kernel(approximate, 'Gelu')}_backward"


def gelu_kernel(approximate: str, who: str) -> str:
    """The first part of the names of the kernels."""
    if approximate not in ("none", "tanh"):
        raise ValueError(f"{who}: approximate must be 'none' or 'tanh', got {approximate!r}")
    return "gelu" if approximate == "none" else "gelu_tanh"
