"""Convolution, by register tiles over images as they are. Sibling: kernels/ref/convolution.py.

out[n,f,y,x] = b[f] + sum_crs x[n, c, y·stride + r·dilation - pad, x·stride + s·dilation - pad] · W[f,c,r,s]
convolution_relu: max(that, 0)      dx, dW, db: its gradients; x outside of the image is 0

x, dx: (N, C, H, W); W, dW: (F, C/groups, KH, KW); b, db: (F,); out, dout: (N, F, OH, OW); all contiguous, of one
dtype, float32 or float64, which sums accumulate in. stride, pad, dilation: pairs (vertical, horizontal). The groups
follow from the shapes. Georganas et al., Anatomy of High-Performance Deep Learning Convolutions, SC18.
"""

import numpy as np

from . import _convolve, _convolve_planes, _convolve_weights
from ._image_plan import backward_plan, forward_plan, weights_plan
from ._image_tile import compiled_image_tile
from ._jit import run
from ._simd import VECTORS

# Multiply-adds from which waking the threads pays (measured: bench/RESULTS.md).
PARALLEL_ABOVE = 400_000


def _run(loops, work, x, *args):
    args = (compiled_image_tile(x.dtype.char, loops is _convolve_planes).address, *args)
    if work > PARALLEL_ABOVE:
        run(loops._serial, loops._parallel, *args)
    else:
        loops._serial(*args, 1)


def _lanes(x):
    return VECTORS.bytes // x.itemsize


def _convolution(plan, x, W, b, floor, out, work):
    loops = _convolve_planes if plan[0].in_planes else _convolve
    _run(loops, work, x, *plan, x, W, b, x.dtype.type(floor), out)


def _forward(x, W, b, stride, pad, dilation, out, floor):
    groups = x.shape[1] // W.shape[1]
    plan = forward_plan(x.shape[2:], W.shape, groups, stride, pad, dilation, out.shape[2:], _lanes(x))
    _convolution(plan, x, W, b, floor, out, out.size * W[0].size)


def convolution_forward(x, W, b, stride, pad, dilation, out):
    _forward(x, W, b, stride, pad, dilation, out, -np.inf)


def convolution_relu_forward(x, W, b, stride, pad, dilation, out):
    _forward(x, W, b, stride, pad, dilation, out, 0)


def convolution_backward_input(dout, W, stride, pad, dilation, dx):
    groups = dx.shape[1] // W.shape[1]
    plan = backward_plan(dx.shape[2:], W.shape, groups, stride, pad, dilation, dout.shape[2:], _lanes(dx))
    _convolution(plan, dout, W, np.empty(0, dx.dtype), -np.inf, dx, dout.size * W[0].size)


def convolution_backward_params(x, dout, stride, pad, dilation, dW, db):
    groups = x.shape[1] // dW.shape[1]
    plan = weights_plan(x.shape[2:], dW.shape, groups, stride, pad, dilation, dout.shape[2:], _lanes(x))
    _run(_convolve_weights, dout.size * dW[0].size, x, *plan, x, dout, dW, db, x.dtype.type(1))
