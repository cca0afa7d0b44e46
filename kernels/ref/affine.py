"""Matrix product plus bias, in NumPy. Sibling: kernels/cpu/affine.py.

out = x·W + b      dx = dout·Wᵀ      dW = xᵀ·dout      db[f] = sum_n dout[n,f]

x, dx: (N, D); W, dW: (D, F); b, db: (F,); out, dout: (N, F).
"""

import numpy as np

from .matmul import matmul_backward_input, matmul_backward_params


def affine_forward(x, W, b, out):
    np.matmul(x, W, out=out)
    out += b


affine_backward_input = matmul_backward_input


def affine_backward_params(x, dout, dW, db):
    matmul_backward_params(x, dout, dW)
    np.sum(dout, axis=0, out=db)
