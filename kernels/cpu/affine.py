"""Affine map, alone or with an activation after or before it in the same pass. Sibling: kernels/ref/affine.py.

out = x · W + b      dx = dout · Wᵀ      dW = xᵀ · dout      db = sum over rows of dout
affine_relu: max(x · W + b, 0), NaN stays NaN      affine_sigmoid: 1 / (1 + exp(-(x · W + b)))
relu_affine, sigmoid_affine: dx is that of relu, sigmoid, whose outputs y are the inputs of the affine map

x, y, dx: (N, D), y contiguous; W, dW: (D, M); b, db: (M,); out, dout: (N, M); float32 or float64, all of one dtype,
which sums accumulate in, in blocks of at most 512. Rows may lie any distance apart; x, W, dout may be transposed views.
Goto, van de Geijn, ACM TOMS 34 (2008): _gemm.py. Large float32 on some CPUs: _amx.py.
"""

from ._gemm import BIAS, BIAS_RELU, BIAS_SIGMOID, RELU_GRADIENT, SIGMOID_GRADIENT, STORE
from ._matrices import COLUMN_SUMS, TRANSPOSE_A, TRANSPOSE_B
from ._product import product


@product(BIAS)
def affine_forward(x, W, b, out): ...


@product(BIAS_RELU)
def affine_relu_forward(x, W, b, out): ...


@product(BIAS_SIGMOID)
def affine_sigmoid_forward(x, W, b, out): ...


@product(STORE | TRANSPOSE_B)
def affine_backward_input(dout, W, dx): ...


@product(RELU_GRADIENT | TRANSPOSE_B)
def relu_affine_backward_input(dout, W, y, dx): ...


@product(SIGMOID_GRADIENT | TRANSPOSE_B)
def sigmoid_affine_backward_input(dout, W, y, dx): ...


@product(STORE | TRANSPOSE_A | COLUMN_SUMS)
def affine_backward_params(x, dout, dW, db): ...
