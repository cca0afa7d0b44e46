"""Convolution, by register tiles over images as they are. Sibling: kernels/ref/convolution.py.

out[n,f,y,x] = b[f] + sum_crs x[n, c, y·stride + r·dilation - pad, x·stride + s·dilation - pad] · W[f,c,r,s]
convolution_relu: max(that, 0)      dx, dW, db: its gradients; x outside of the image is 0

x, dx: (N, C, H, W); W, dW: (F, C/groups, KH, KW); b, db: (F,); out, dout: (N, F, OH, OW); all contiguous, of one
dtype, float32 or float64, which sums accumulate in. stride, pad, dilation: pairs (vertical, horizontal). The groups
follow from the shapes. Georganas et al., Anatomy of High-Performance Deep Learning Convolutions, SC18.
"""

import numpy as np

from . import _convolve, _convolve_weights
from ._image_plan import backward_plan, forward_plan, weights_plan
from ._image_tile import compiled_image_tile
from ._jit import run

# Multiply-adds from which waking the threads pays (measured: bench/RESULTS.md).
PARALLEL_ABOVE = 400_000


def _run(loops, work, dtype, *args):
    args = (compiled_image_tile(dtype.char).address, *args)
    if work > PARALLEL_ABOVE:
        run(loops._serial, loops._parallel, *args)
    else:
        loops._serial(*args, 1)


def _forward(x, W, b, stride, pad, dilation, out, floor):
    plan = forward_plan(x.shape[2:], W.shape, x.shape[1] // W.shape[1], stride, pad, dilation, out.shape[2:])
    _run(_convolve, out.size * W[0].size, x.dtype, *plan, x, W, b, x.dtype.type(floor), out)


def convolution_forward(x, W, b, stride, pad, dilation, out):
    _forward(x, W, b, stride, pad, dilation, out, -np.inf)


def convolution_relu_forward(x, W, b, stride, pad, dilation, out):
    _forward(x, W, b, stride, pad, dilation, out, 0)


def convolution_backward_input(dout, W, stride, pad, dilation, dx):
    plan = backward_plan(dx.shape[2:], W.shape, dx.shape[1] // W.shape[1], stride, pad, dilation, dout.shape[2:])
    no_bias, no_floor = np.empty(0, dx.dtype), dx.dtype.type(-np.inf)
    _run(_convolve, dout.size * W[0].size, dx.dtype, *plan, dout, W, no_bias, no_floor, dx)


def convolution_backward_params(x, dout, stride, pad, dilation, dW, db):
    plan = weights_plan(x.shape[2:], dW.shape, x.shape[1] // dW.shape[1], stride, pad, dilation, dout.shape[2:])
    _run(_convolve_weights, dout.size * dW[0].size, x.dtype, *plan, x, dout, dW, db, x.dtype.type(1))
