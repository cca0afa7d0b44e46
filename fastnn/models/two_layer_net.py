from typing import Any

from numpy.typing import DTypeLike

from .multi_layer_net import MultiLayerNet


class TwoLayerNet(MultiLayerNet):
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
        super().__init__(input_size, [hidden_size], output_size, activation, weight_init_std, dtype=dtype, rng=rng)
