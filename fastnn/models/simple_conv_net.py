import math
from collections.abc import Mapping
from typing import Any

from numpy.typing import DTypeLike

from .._random import random_source
from ..layers import Affine, Convolution, Pooling, Relu, SoftmaxWithLoss
from ._initial import Shape, check_input_dim, check_sizes, convolved, halved, initial_parameters
from .network import Network

_CONV_PARAM = {"filter_num": 30, "filter_size": 5, "pad": 0, "stride": 1}


class SimpleConvNet(Network):
    """Convolution, relu, max-pooling 2 x 2, Affine, relu, Affine; with softmax and cross-entropy as its loss.

    Book 1, section 7.5; ``load_params("params.pkl")`` reads the weights of chapter 7.

    Parameters
    ----------
    input_dim : (int, int, int)
        Channels, height and width of the images.
    conv_param : mapping of str to int
        ``filter_num``, ``filter_size``, ``pad`` and ``stride`` of the convolution.
    hidden_size, output_size : int
        Hidden units, classes.
    weight_init_std : float
        Standard deviation of the normal distribution of the first weights. Biases start at 0.
    dtype : dtype, optional
        float32 or float64; default ``config.dtype``, which is float32.
    rng : None, int, numpy.random.Generator or RandomState
        Where the weights are drawn from: None is NumPy's global state, as in the book; an int seeds a Generator.

    Raises
    ------
    ValueError
        For images that are too small, sizes below 1, another dtype.

    Examples
    --------
    >>> import numpy as np
    >>> from fastnn.models import SimpleConvNet
    >>> net = SimpleConvNet(rng=0)
    >>> {name: p.shape for name, p in net.params.items() if name[0] == "W"}
    {'W1': (30, 1, 5, 5), 'W2': (4320, 100), 'W3': (100, 10)}
    >>> net.predict(np.zeros((2, 1, 28, 28), "float32")).shape
    (2, 10)
    """

    def __init__(
        self,
        input_dim: tuple[int, int, int] = (1, 28, 28),
        conv_param: Mapping[str, int] = _CONV_PARAM,
        hidden_size: int = 100,
        output_size: int = 10,
        weight_init_std: float = 0.01,
        dtype: DTypeLike | None = None,
        rng: Any = None,
    ) -> None:
        who = type(self).__name__
        check_sizes(who, hidden_size, output_size)
        filters, image = convolved(who, check_input_dim(who, input_dim), conv_param)
        values = math.prod(halved(who, image))
        shapes: dict[str, Shape] = {
            "W1": filters,
            "b1": filters[:1],
            "W2": (values, hidden_size),
            "b2": (hidden_size,),
            "W3": (hidden_size, output_size),
            "b3": (output_size,),
        }
        stds = dict.fromkeys(("W1", "W2", "W3"), weight_init_std)
        p, grads = initial_parameters(who, shapes, stds, dtype, random_source(rng, who))
        layers = {
            "Conv1": Convolution(p["W1"], p["b1"], conv_param["stride"], conv_param["pad"]),
            "Relu1": Relu(),
            "Pool1": Pooling(2, 2, stride=2),
            "Affine1": Affine(p["W2"], p["b2"]),
            "Relu2": Relu(),
            "Affine2": Affine(p["W3"], p["b3"]),
        }
        super().__init__(layers, SoftmaxWithLoss())
        self._adopt(p, grads)
