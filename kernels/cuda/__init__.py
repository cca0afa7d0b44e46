"""The kernels in CUDA C, on CuPy arrays. Importing this needs CuPy; nothing imports it before a GPU is asked for."""

import cupy as xp

from .affine import (
    affine_backward_input,
    affine_backward_params,
    affine_forward,
    affine_relu_forward,
    affine_sigmoid_forward,
    relu_affine_backward_input,
    sigmoid_affine_backward_input,
)
from .gelu import gelu_backward, gelu_forward, gelu_tanh_backward, gelu_tanh_forward
from .leaky_relu import leaky_relu_backward, leaky_relu_forward
from .matmul import matmul_backward_input, matmul_backward_params, matmul_forward
from .relu import relu_backward, relu_forward
from .sigmoid import sigmoid_backward, sigmoid_forward
from .silu import silu_backward, silu_forward
from .softplus import softplus_backward, softplus_forward
from .tanh import tanh_backward, tanh_forward

__all__ = [
    "affine_backward_input",
    "affine_backward_params",
    "affine_forward",
    "affine_relu_forward",
    "affine_sigmoid_forward",
    "gelu_backward",
    "gelu_forward",
    "gelu_tanh_backward",
    "gelu_tanh_forward",
    "leaky_relu_backward",
    "leaky_relu_forward",
    "matmul_backward_input",
    "matmul_backward_params",
    "matmul_forward",
    "relu_affine_backward_input",
    "relu_backward",
    "relu_forward",
    "sigmoid_affine_backward_input",
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
