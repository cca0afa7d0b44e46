"""Matrix product, in NumPy. Sibling: kernels/cpu/matmul.py.

out = x·W      dx = dout·Wᵀ      dW = xᵀ·dout

x, dx: (N, D); W, dW: (D, F); out, dout: (N, F).
"""

import numpy as np


def matmul_forward(x, W, out):
    np.matmul(x, W, out=out)


def matmul_backward_input(dout, W, dx):
    np.matmul(dout, W.T, out=dx)


def matmul_backward_params(x, dout, dW):
    np.matmul(x.T, dout, out=dW)
