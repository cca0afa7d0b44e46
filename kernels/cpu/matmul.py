"""Matrix product. Sibling: kernels/ref/matmul.py.

out = x · W      dx = dout · Wᵀ      dW = xᵀ · dout

x, dx: (N, D); W, dW: (D, M); out, dout: (N, M); float32 or float64, all of one dtype, which sums accumulate in, in
blocks of at most 512. Rows may lie any distance apart; x, W and dout may be transposed views.
Goto, van de Geijn, ACM TOMS 34 (2008): _gemm.py. Large float32 on some CPUs: _amx.py.
"""

from ._gemm import STORE
from ._matrices import TRANSPOSE_A, TRANSPOSE_B
from ._product import product


@product(STORE)
def matmul_forward(x, W, out): ...


@product(STORE | TRANSPOSE_B)
def matmul_backward_input(dout, W, dx): ...


@product(STORE | TRANSPOSE_A)
def matmul_backward_params(x, dout, dW): ...
