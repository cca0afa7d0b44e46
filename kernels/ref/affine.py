"""Matrix product plus bias, alone or followed by an activation, in NumPy. Sibling: kernels/cpu/affine.py.

out = x·W + b      affine_relu: max(x·W + b, 0)      affine_sigmoid: 1 / (1 + exp(-(x·W + b)))
dx = dout·Wᵀ      dW = xᵀ·dout      db[f] = sum_n dout[n,f]

x, dx: (N, D); W, dW: (D, F); b, db: (F,); out, dout: (N, F).
"""

import numpy as np

from .matmul import matmul_backward_input, matmul_backward_params
from .relu import relu_forward
from .sigmoid import sigmoid_forward


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


def affine_backward_params(x, dout, dW, db):
    matmul_backward_params(x, dout, dW)
    np.sum(dout, axis=0, out=db)
