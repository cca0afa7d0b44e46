"""The kernels in Numba: JIT-compiled loops, parallel where the work is worth waking the threads."""

import numpy as xp

from .affine import (
    affine_backward_input,
    affine_backward_params,
    affine_forward,
    affine_relu_forward,
    affine_sigmoid_forward,
    relu_affine_backward_input,
    sigmoid_affine_backward_input,
)
from .average_pooling import average_pooling_backward, average_pooling_forward
from .batch_normalization import (
    batch_normalization_backward,
    batch_normalization_forward,
    batch_normalization_inference,
)
from .convolution import (
    convolution_backward_input,
    convolution_backward_params,
    convolution_forward,
    convolution_relu_forward,
)
from .dropout import dropout_backward, dropout_forward
from .gelu import gelu_backward, gelu_forward, gelu_tanh_backward, gelu_tanh_forward
from .leaky_relu import leaky_relu_backward, leaky_relu_forward
from .log_softmax import log_softmax_backward, log_softmax_forward
from .matmul import matmul_backward_input, matmul_backward_params, matmul_forward
from .max_pooling import max_pooling_backward, max_pooling_forward
from .mean_squared_error import mean_squared_error
from .mlp import mlp_plan, mlp_predict, mlp_predict_workspace, mlp_train, mlp_workspace
from .optimizer import optimizer_plan, optimizer_update
from .relu import relu_backward, relu_forward
from .roofline import copy_to_and_fro, multiply_adds
from .shuffles import shuffles
from .sigmoid import sigmoid_backward, sigmoid_forward
from .sigmoid_with_loss import sigmoid_with_loss
from .silu import silu_backward, silu_forward
from .softmax import softmax_backward, softmax_forward
from .softmax_with_loss import softmax_with_loss
from .softplus import softplus_backward, softplus_forward
from .tanh import tanh_backward, tanh_forward

__all__ = [
    "affine_backward_input",
    "affine_backward_params",
    "affine_forward",
    "affine_relu_forward",
    "affine_sigmoid_forward",
    "average_pooling_backward",
    "average_pooling_forward",
    "batch_normalization_backward",
    "batch_normalization_forward",
    "batch_normalization_inference",
    "convolution_backward_input",
    "convolution_backward_params",
    "convolution_forward",
    "convolution_relu_forward",
    "copy_to_and_fro",
    "dropout_backward",
    "dropout_forward",
    "gelu_backward",
    "gelu_forward",
    "gelu_tanh_backward",
    "gelu_tanh_forward",
    "leaky_relu_backward",
    "leaky_relu_forward",
    "log_softmax_backward",
    "log_softmax_forward",
    "matmul_backward_input",
    "matmul_backward_params",
    "matmul_forward",
    "max_pooling_backward",
    "max_pooling_forward",
    "mean_squared_error",
    "mlp_plan",
    "mlp_predict",
    "mlp_predict_workspace",
    "mlp_train",
    "mlp_workspace",
    "multiply_adds",
    "optimizer_plan",
    "optimizer_update",
    "relu_affine_backward_input",
    "relu_backward",
    "relu_forward",
    "shuffles",
    "sigmoid_affine_backward_input",
    "sigmoid_backward",
    "sigmoid_forward",
    "sigmoid_with_loss",
    "silu_backward",
    "silu_forward",
    "softmax_backward",
    "softmax_forward",
    "softmax_with_loss",
    "softplus_backward",
    "softplus_forward",
    "tanh_backward",
    "tanh_forward",
    "xp",
]
