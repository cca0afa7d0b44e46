"""Layers with the constructors, attributes and methods of "Deep Learning from Scratch" 1 (ch. 5) and 2 (ch. 1).

Each has ``forward`` and ``backward``, and ``params`` and ``grads``: lists whose arrays stay where they are for the
layer's life, so that an optimizer may keep them. Inputs are never modified.
"""

from .affine import Affine
from .batch_normalization import BatchNormalization
from .convolution import Convolution
from .dropout import Dropout
from .flatten import Flatten
from .gelu import Gelu
from .leaky_relu import LeakyRelu
from .log_softmax import LogSoftmax
from .matmul import MatMul
from .mean_squared_error import MeanSquaredError
from .nodes import AddLayer, MulLayer, Repeat, Sum
from .pooling import AveragePooling, Pooling
from .relu import Relu
from .sigmoid import Sigmoid
from .sigmoid_with_loss import SigmoidWithLoss
from .silu import Silu
from .softmax import Softmax
from .softmax_with_loss import SoftmaxWithLoss
from .softplus import Softplus
from .tanh import Tanh

__all__ = [
    "AddLayer",
    "Affine",
    "AveragePooling",
    "BatchNormalization",
    "Convolution",
    "Dropout",
    "Flatten",
    "Gelu",
    "LeakyRelu",
    "LogSoftmax",
    "MatMul",
    "MeanSquaredError",
    "MulLayer",
    "Pooling",
    "Relu",
    "Repeat",
    "Sigmoid",
    "SigmoidWithLoss",
    "Silu",
    "Softmax",
    "SoftmaxWithLoss",
    "Softplus",
    "Sum",
    "Tanh",
]
