"""Matrix product, on a GPU. Sibling: kernels/ref/matmul.py.

out = x·W      dx = dout·Wᵀ      dW = xᵀ·dout

x, dx: (N, D); W, dW: (D, F); out, dout: (N, F); sums accumulate in the dtype of all. Each contiguous along one of its
axes, outputs along their rows. How: _product.cu.
"""

from ._product import product


def matmul_forward(x, W, out):
    product(x, W, out)


def matmul_backward_input(dout, W, dx):
    product(dout, W.T, dx)


def matmul_backward_params(x, dout, dW):
    product(x.T, dout, dW)
