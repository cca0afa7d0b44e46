"""The kernels in CUDA C, on CuPy arrays. Importing this needs CuPy; nothing imports it before a GPU is asked for."""

import cupy as xp

from .gelu import gelu_backward, gelu_forward, gelu_tanh_backward, gelu_tanh_forward
from .leaky_relu import leaky_relu_backward, leaky_relu_forward
from .relu import relu_backward, relu_forward
from .sigmoid import sigmoid_backward, sigmoid_forward
from .silu import silu_backward, silu_forward
from .softplus import softplus_backward, softplus_forward
from .tanh import tanh_backward, tanh_forward

__all__ = [
    "gelu_backward",
    "gelu_forward",
    "gelu_tanh_backward",
    "gelu_tanh_forward",
    "leaky_relu_backward",
    "leaky_relu_forward",
    "relu_backward",
    "relu_forward",
    "sigmoid_backward",
    "sigmoid_forward",
    "silu_backward",
    "silu_forward",
    "softplus_backward",
    "softplus_forward",
    "tanh_backward",
    "tanh_forward",
    "xp",
]
