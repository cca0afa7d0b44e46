"""Matrix product plus bias, alone or with an activation after or before it, on a GPU. Sibling: kernels/ref/affine.py.

out = x·W + b      affine_relu: max(x·W + b, 0)      affine_sigmoid: 1 / (1 + exp(-(x·W + b)))
dx = dout·Wᵀ      dW = xᵀ·dout      db[f] = sum_n dout[n,f]
relu_affine, sigmoid_affine: dx is that of relu, sigmoid, whose outputs y are the inputs of the affine map

x, y, dx: (N, D); W, dW: (D, F); b, db: (F,); out, dout: (N, F). Each function is one launch; see matmul.py.
"""

from ._product import BIAS, BIAS_RELU, BIAS_SIGMOID, RELU_GRADIENT, SIGMOID_GRADIENT, product


def affine_forward(x, W, b, out):
    product(x, W, out, BIAS, b)


def affine_relu_forward(x, W, b, out):
    product(x, W, out, BIAS_RELU, b)


def affine_sigmoid_forward(x, W, b, out):
    product(x, W, out, BIAS_SIGMOID, b)


def affine_backward_input(dout, W, dx):
    product(dout, W.T, dx)


def relu_affine_backward_input(dout, W, y, dx):
    product(dout, W.T, dx, RELU_GRADIENT, y)


def sigmoid_affine_backward_input(dout, W, y, dx):
    product(dout, W.T, dx, SIGMOID_GRADIENT, y)


def affine_backward_params(x, dout, dW, db):
    product(x.T, dout, dW, column_sums=db)
