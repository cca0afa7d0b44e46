"""Mean over windows of images. Sibling: kernels/ref/average_pooling.py.

out[.., i, j] = sum over k < pool_h, l < pool_w of x[.., i · stride + k - pad, j · stride + l - pad] / (pool_h · pool_w)
dx = each element's share of the dout of all windows it lies in

x, dx: (N, C, H, W); out, dout: (N, C, OH, OW); contiguous, of one dtype, which sums accumulate in. Padding counts as
zeros.
"""

from numba import prange

from ._jit import cpu_kernel


@cpu_kernel(parallel_above=20_000)
def _forward(x, pool_h, pool_w, stride, pad, out):
    _, H, W = x.shape
    share = x.dtype.type(1 / (pool_h * pool_w))
    for plane in prange(x.shape[0]):
        for i in range(out.shape[1]):
            top = i * stride - pad
            for j in range(out.shape[2]):
                left = j * stride - pad
                total = x.dtype.type(0)
                for k in range(max(0, -top), min(pool_h, H - top)):
                    for l in range(max(0, -left), min(pool_w, W - left)):
                        total += x[plane, top + k, left + l]
                out[plane, i, j] = total * share


@cpu_kernel(parallel_above=10_000)
def _backward(dout, pool_h, pool_w, stride, pad, dx):
    _, H, W = dx.shape
    share = dx.dtype.type(1 / (pool_h * pool_w))
    for plane in prange(dx.shape[0]):
        for i in range(H):
            for j in range(W):
                dx[plane, i, j] = 0
        for i in range(dout.shape[1]):
            top = i * stride - pad
            for j in range(dout.shape[2]):
                left = j * stride - pad
                d = dout[plane, i, j] * share
                for k in range(max(0, -top), min(pool_h, H - top)):
                    for l in range(max(0, -left), min(pool_w, W - left)):
                        dx[plane, top + k, left + l] += d


def _planes(a):
    return a.reshape(-1, *a.shape[2:])


def average_pooling_forward(x, pool_h, pool_w, stride, pad, out):
    _forward(_planes(x), pool_h, pool_w, stride, pad, _planes(out))


def average_pooling_backward(dout, pool_h, pool_w, stride, pad, dx):
    _backward(_planes(dout), pool_h, pool_w, stride, pad, _planes(dx))
