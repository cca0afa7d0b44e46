from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from .. import config
from ..layers import Affine, Relu, Sigmoid, SoftmaxWithLoss
from .network import Network


class TwoLayerNet(Network):
    """Affine, sigmoid or relu, Affine; with softmax and cross-entropy as its loss.

    Book 1, sections 4.5 and 5.7; book 2, section 1.4.2.

    Parameters
    ----------
    input_size, hidden_size, output_size : int
        Values a sample, hidden units, classes.
    weight_init_std : float
        Standard deviation of the normal distribution of the first weights. Biases start at 0.
    activation : {"sigmoid", "relu"}
    dtype : dtype, optional
        float32 or float64; default ``config.dtype``, which is float32.
    rng : None, int, numpy.random.Generator or RandomState
        Where the weights are drawn from: None is NumPy's global state, as in the book, so that ``np.random.seed``
        makes it repeatable; an int seeds a Generator.

    Raises
    ------
    ValueError
        For an unknown activation, a dtype that is neither, or sizes below 1.

    Examples
    --------
    >>> import numpy as np
    >>> from fastnn.models import TwoLayerNet
    >>> net = TwoLayerNet(784, 50, 10, activation="relu", rng=0)
    >>> net.params
    Parameters(W1 (784, 50) float32, b1 (50,) float32, W2 (50, 10) float32, b2 (10,) float32)
    >>> x, t = np.zeros((100, 784), "float32"), np.zeros(100, int)
    >>> round(float(net.loss(x, t)), 4)  # log(10): nothing learned yet
    2.3026
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        output_size: int,
        weight_init_std: float = 0.01,
        activation: str = "sigmoid",
        dtype: DTypeLike | None = None,
        rng: Any = None,
    ) -> None:
        activations = {"sigmoid": Sigmoid, "relu": Relu}
        if activation not in activations:
            raise ValueError(f"TwoLayerNet: activation must be 'sigmoid' or 'relu', got {activation!r}")
        if min(input_size, hidden_size, output_size) < 1:
            raise ValueError(f"TwoLayerNet: sizes must be at least 1, got {input_size}, {hidden_size}, {output_size}")
        dtype = np.dtype(config.dtype if dtype is None else dtype)
        if dtype not in (np.float32, np.float64):
            raise ValueError(f"TwoLayerNet: dtype must be float32 or float64, got {dtype}")
        if isinstance(rng, int | np.integer):
            rng = np.random.default_rng(rng)
        normal = (np.random if rng is None else rng).standard_normal

        def affine(D: int, F: int) -> Affine:
            return Affine((weight_init_std * normal((D, F))).astype(dtype), np.zeros(F, dtype))

        super().__init__(
            {
                "Affine1": affine(input_size, hidden_size),
                activation.capitalize() + "1": activations[activation](),
                "Affine2": affine(hidden_size, output_size),
            },
            SoftmaxWithLoss(),
        )
