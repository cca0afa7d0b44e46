"""Maximum over windows of images: see kernels/ref/max_pooling.py. Arrays contiguous, all but argmax of one dtype."""

from ._images import grid_of
from ._launch import kernel


def max_pooling_forward(x, pool_h, pool_w, stride, pad, out, argmax):
    if out.size == 0:
        return
    N, C, H, W = x.shape
    kernel("max_pooling", "max_pooling_forward", scalar=x.dtype, place_t=argmax.dtype)(
        *grid_of(out), (x, N * C, H, W, pool_h, pool_w, stride, pad, *out.shape[2:], out, argmax)
    )


def max_pooling_backward(dout, argmax, pool_h, pool_w, stride, pad, dx):
    if dx.size == 0:
        return
    N, C, H, W = dx.shape
    kernel("max_pooling", "max_pooling_backward", scalar=dx.dtype, place_t=argmax.dtype)(
        *grid_of(dx), (dout, argmax, N * C, H, W, pool_h, pool_w, stride, pad, *dout.shape[2:], dx)
    )
