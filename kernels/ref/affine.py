"""Matrix product plus bias, alone or with an activation after or before it, in NumPy. Sibling: kernels/cpu/affine.py.

out = x·W + b      affine_relu: max(x·W + b, 0)      affine_sigmoid: 1 / (1 + exp(-(x·W + b)))
dx = dout·Wᵀ      dW = xᵀ·dout      db[f] = sum_n dout[n,f]
relu_affine, sigmoid_affine: dx is that of relu, sigmoid, whose outputs y are the inputs of the affine map

x, y, dx: (N, D); W, dW: (D, F); b, db: (F,); out, dout: (N, F).
"""

import numpy as np

from .matmul import matmul_backward_input, matmul_backward_params
from .relu import relu_backward, relu_forward
from .sigmoid import sigmoid_backward, sigmoid_forward


def affine_forward(x, W, b, out):
    np.matmul(x, W, out=out)
    out += b


def affine_relu_forward(x, W, b, out):
    affine_forward(x, W, b, out)
    relu_forward(out, out)


def affine_sigmoid_forward(x, W, b, out):
    affine_forward(x, W, b, out)
    sigmoid_forward(out, out)


affine_backward_input = matmul_backward_input


def relu_affine_backward_input(dout, W, y, dx):
    affine_backward_input(dout, W, dx)
    relu_backward(dx, y, dx)


def sigmoid_affine_backward_input(dout, W, y, dx):
    affine_backward_input(dout, W, dx)
    sigmoid_backward(dx, y, dx)


def affine_backward_params(x, dout, dW, db):
    matmul_backward_params(x, dout, dW)
    np.sum(dout, axis=0, out=db)
