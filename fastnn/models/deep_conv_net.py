import math
from collections.abc import Mapping
from typing import Any

from numpy.typing import DTypeLike

from .._random import random_source
from ..layers import Affine, Convolution, Dropout, Pooling, Relu, SoftmaxWithLoss
from ..layers.layer import Layer
from ._initial import Shape, check_input_dim, check_sizes, convolved, halved, he, initial_parameters
from .network import Network


def _conv_param(filter_num: int, pad: int = 1) -> dict[str, int]:
    return {"filter_num": filter_num, "filter_size": 3, "pad": pad, "stride": 1}


class DeepConvNet(Network):
    """Three times two convolutions with relu and a max-pooling 2 x 2; Affine, relu, dropout, Affine, dropout.

    With softmax and cross-entropy as its loss; He's first weights. Book 1, section 8.1, where it reaches more than 99 %
    on MNIST; ``load_params("deep_convnet_params.pkl")`` reads the weights of chapter 8.

    Parameters
    ----------
    input_dim : (int, int, int)
        Channels, height and width of the images.
    conv_param_1, ..., conv_param_6 : mapping of str to int
        ``filter_num``, ``filter_size``, ``pad`` and ``stride`` of each convolution.
    hidden_size, output_size : int
        Hidden units, classes.
    dtype : dtype, optional
        float32 or float64; default ``config.dtype``, which is float32.
    rng : None, int, numpy.random.Generator or RandomState
        Where the weights are drawn from, and what dropout drops: None is NumPy's global state, as in the book; an int
        seeds a Generator.

    Raises
    ------
    ValueError
        For images that are too small, sizes below 1, another dtype.

    Examples
    --------
    >>> import numpy as np
    >>> from fastnn.models import DeepConvNet
    >>> net = DeepConvNet(rng=0)
    >>> [p.shape for name, p in net.params.items() if name in ("W1", "W6", "W7")]
    [(16, 1, 3, 3), (64, 64, 3, 3), (1024, 50)]
    >>> net.predict(np.zeros((2, 1, 28, 28), "float32")).shape
    (2, 10)
    """

    def __init__(
        self,
        input_dim: tuple[int, int, int] = (1, 28, 28),
        conv_param_1: Mapping[str, int] = _conv_param(16),
        conv_param_2: Mapping[str, int] = _conv_param(16),
        conv_param_3: Mapping[str, int] = _conv_param(32),
        conv_param_4: Mapping[str, int] = _conv_param(32, pad=2),
        conv_param_5: Mapping[str, int] = _conv_param(64),
        conv_param_6: Mapping[str, int] = _conv_param(64),
        hidden_size: int = 50,
        output_size: int = 10,
        dtype: DTypeLike | None = None,
        rng: Any = None,
    ) -> None:
        who = type(self).__name__
        check_sizes(who, hidden_size, output_size)
        conv_params = [conv_param_1, conv_param_2, conv_param_3, conv_param_4, conv_param_5, conv_param_6]
        shapes: dict[str, Shape] = {}
        image = check_input_dim(who, input_dim)
        for i, conv_param in enumerate(conv_params, start=1):
            filters, image = convolved(who, image, conv_param)
            shapes |= {f"W{i}": filters, f"b{i}": filters[:1]}
            if i % 2 == 0:
                image = halved(who, image)
        shapes |= {"W7": (math.prod(image), hidden_size), "b7": (hidden_size,)}
        shapes |= {"W8": (hidden_size, output_size), "b8": (output_size,)}
        stds = {name: he(shape) for name, shape in shapes.items() if name.startswith("W")}
        source = random_source(rng, who)
        p, grads = initial_parameters(who, shapes, stds, dtype, source)

        layers: dict[str, Layer] = {}
        for i, conv_param in enumerate(conv_params, start=1):
            layers[f"Conv{i}"] = Convolution(p[f"W{i}"], p[f"b{i}"], conv_param["stride"], conv_param["pad"])
            layers[f"Relu{i}"] = Relu()
            if i % 2 == 0:
                layers[f"Pool{i // 2}"] = Pooling(2, 2, stride=2)
        layers |= {
            "Affine1": Affine(p["W7"], p["b7"]),
            "Relu7": Relu(),
            "Dropout1": Dropout(0.5, source),
            "Affine2": Affine(p["W8"], p["b8"]),
            "Dropout2": Dropout(0.5, source),
        }
        super().__init__(layers, SoftmaxWithLoss())
        self._adopt(p, grads)
