import itertools
import math
from collections.abc import Sequence
from typing import Any

from numpy.typing import DTypeLike

from .._random import random_source
from ..layers import Affine, BatchNormalization, Dropout, Relu, Sigmoid, SoftmaxWithLoss
from ..layers.layer import Layer
from ._initial import Shape, check_sizes, initial_parameters
from .network import Network

_ACTIVATIONS = {"sigmoid": Sigmoid, "relu": Relu}
_GAINS = {"relu": 2.0, "he": 2.0, "sigmoid": 1.0, "xavier": 1.0}


class MultiLayerNetExtend(Network):
    """Any number of hidden layers: Affine, batch normalisation, activation, dropout; with softmax and cross-entropy.

    Book 1, chapter 6; ``common/multi_layer_net_extend.py``.

    Parameters
    ----------
    input_size : int
        Values a sample.
    hidden_size_list : sequence of int
        Units of each hidden layer.
    output_size : int
        Classes.
    activation : {"relu", "sigmoid"}
    weight_init_std : float or {"relu", "he", "sigmoid", "xavier"}
        Standard deviation of the normal distribution of the first weights; the names stand for sqrt(2 / n) (He) and
        sqrt(1 / n) (Xavier), n the values that go into a layer. Biases start at 0.
    weight_decay_lambda : float
        As of `Network`.
    use_dropout : bool
        Dropout after each activation.
    dropout_ration : float
        Its share, by the book's name.
    use_batchnorm : bool
        Batch normalisation before each activation.
    dropout_ratio : float, optional
        The same as dropout_ration, spelled out.
    dtype : dtype, optional
        float32 or float64; default ``config.dtype``, which is float32.
    rng : None, int, numpy.random.Generator or RandomState
        Where the weights are drawn from, and what dropout drops: None is NumPy's global state, as in the book; an int
        seeds a Generator.

    Raises
    ------
    ValueError
        For an unknown activation, weight_init_std or dtype, sizes below 1, a ratio outside [0, 1).

    Examples
    --------
    >>> import numpy as np
    >>> from fastnn.models import MultiLayerNetExtend
    >>> net = MultiLayerNetExtend(784, [100, 50], 10, use_dropout=True, dropout_ratio=0.2, use_batchnorm=True, rng=0)
    >>> list(net.layers)[:5]
    ['Affine1', 'BatchNorm1', 'Relu1', 'Dropout1', 'Affine2']
    >>> list(net.params.keys())[:6]
    ['W1', 'b1', 'gamma1', 'beta1', 'W2', 'b2']
    >>> net.predict(np.zeros((3, 784), "float32")).shape
    (3, 10)
    """

    def __init__(
        self,
        input_size: int,
        hidden_size_list: Sequence[int],
        output_size: int,
        activation: str = "relu",
        weight_init_std: float | str = "relu",
        weight_decay_lambda: float = 0.0,
        use_dropout: bool = False,
        dropout_ration: float = 0.5,
        use_batchnorm: bool = False,
        dropout_ratio: float | None = None,
        dtype: DTypeLike | None = None,
        rng: Any = None,
    ) -> None:
        who = type(self).__name__
        if activation not in _ACTIVATIONS:
            raise ValueError(f"{who}: activation must be 'sigmoid' or 'relu', got {activation!r}")
        sizes = [input_size, *hidden_size_list, output_size]
        check_sizes(who, *sizes)
        hidden = range(1, len(sizes) - 1)
        shapes: dict[str, Shape] = {}
        for i, (D, F) in enumerate(itertools.pairwise(sizes), start=1):
            shapes |= {f"W{i}": (D, F), f"b{i}": (F,)}
            if use_batchnorm and i in hidden:
                shapes |= {f"gamma{i}": (F,), f"beta{i}": (F,)}
        stds = {f"W{i}": _std(who, weight_init_std, D) for i, D in enumerate(sizes[:-1], start=1)}
        source = random_source(rng, who)
        params, grads = initial_parameters(who, shapes, stds, dtype, source)

        layers: dict[str, Layer] = {}
        for i in hidden:
            layers[f"Affine{i}"] = Affine(params[f"W{i}"], params[f"b{i}"])
            if use_batchnorm:
                layers[f"BatchNorm{i}"] = BatchNormalization(params[f"gamma{i}"], params[f"beta{i}"])
            layers[f"{activation.capitalize()}{i}"] = _ACTIVATIONS[activation]()
            if use_dropout:
                layers[f"Dropout{i}"] = Dropout(dropout_ration if dropout_ratio is None else dropout_ratio, source)
        last = len(sizes) - 1
        layers[f"Affine{last}"] = Affine(params[f"W{last}"], params[f"b{last}"])
        super().__init__(layers, SoftmaxWithLoss(), weight_decay_lambda)
        self._adopt(params, grads)


def _std(who: str, weight_init_std: float | str, inputs: int) -> float:
    if not isinstance(weight_init_std, str):
        return weight_init_std
    if weight_init_std.lower() not in _GAINS:
        raise ValueError(
            f"{who}: weight_init_std must be a number, 'relu', 'he', 'sigmoid' or 'xavier', got {weight_init_std!r}"
        )
    return math.sqrt(_GAINS[weight_init_std.lower()] / inputs)
