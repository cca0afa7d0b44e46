from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from .. import config
from ..layers import Affine, Relu, Sigmoid, SoftmaxWithLoss
from .network import Network
from .parameters import Parameters


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

        D, H, C = input_size, hidden_size, output_size
        shapes: dict[str, tuple[int, ...]] = {"W1": (D, H), "b1": (H,), "W2": (H, C), "b2": (C,)}
        params, grads = Parameters.allocate(shapes, dtype), Parameters.allocate(shapes, dtype)
        for name in ("W1", "W2"):
            params[name] = weight_init_std * normal(shapes[name])
        affines = [Affine(params[f"W{i}"], params[f"b{i}"]) for i in (1, 2)]
        for i, affine in enumerate(affines, start=1):
            affine.grads = [grads[f"W{i}"], grads[f"b{i}"]]
        activation_name = activation.capitalize() + "1"
        super().__init__(
            {"Affine1": affines[0], activation_name: activations[activation](), "Affine2": affines[1]},
            SoftmaxWithLoss(),
        )
        self.params, self.grads = params, grads
