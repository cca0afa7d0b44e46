"""Batch normalisation: see kernels/ref/batch_normalization.py. Arrays contiguous and of one dtype; sums in float64."""

import math

import cupy

from ._launch import kernel

_BLOCKS = 1024  # fill any GPU; where there are fewer channels, blocks share out the values of each
_LEAST_VALUES = 4  # of a thread: fewer would not be worth the second look at the sums
_THREADS = 256


class _Launch:
    """How kernels go over arrays like x: see batch_normalization.cu."""

    def __init__(self, x, *others):
        N, C, P = *x.shape[:2], math.prod(x.shape[2:])
        columns = 32 if P == 1 else 1
        together = 16 // x.itemsize
        vector = P % together == 0 and all(a.data.ptr % 16 == 0 for a in (x, *others))
        blocks = -(-C // columns)
        values = N * P // (together if vector else 1) * columns // _THREADS  # of each thread, if one block had them all
        shares = max(1, min(_BLOCKS // blocks, values // _LEAST_VALUES, 256))
        self.sizes = N, C, P, columns, vector
        self._grid, self._dtype = (blocks, shares), x.dtype
        self._sums = (shares, 2, C)

    def sums(self):
        """Memory for the sums of each share."""
        return cupy.empty(self._sums, cupy.float64)

    def __call__(self, name, *args):
        kernel("batch_normalization", name, scalar=self._dtype)(self._grid, (_THREADS,), args)


def batch_normalization_forward(x, gamma, beta, eps, out, mean, var):
    launch = _Launch(x, out)
    sums = launch.sums()
    launch("batch_statistics", x, *launch.sizes, sums)
    launch("batch_normalization_forward", x, *launch.sizes, sums, gamma, beta, x.dtype.type(eps), out, mean, var)


def batch_normalization_inference(x, gamma, beta, mean, var, eps, out):
    launch = _Launch(x, out)
    launch("batch_normalization_inference", x, *launch.sizes, gamma, beta, mean, var, x.dtype.type(eps), out)


def batch_normalization_backward(dout, x, gamma, mean, var, eps, dx, dgamma, dbeta):
    launch = _Launch(x, dout, dx)
    sums, eps = launch.sums(), x.dtype.type(eps)
    launch("batch_gradient_sums", dout, x, *launch.sizes, mean, var, eps, sums)
    launch("batch_normalization_backward", dout, x, *launch.sizes, sums, gamma, mean, var, eps, dx, dgamma, dbeta)
