"""Mean over windows of images, in NumPy. Sibling: kernels/cpu/average_pooling.py.

out[.., i, j] = sum over k < pool_h, l < pool_w of x[.., i · stride + k - pad, j · stride + l - pad] / (pool_h · pool_w)
dx = each element's share of the dout of all windows it lies in

x, dx: (N, C, H, W); out, dout: (N, C, OH, OW). Padding counts as zeros.
"""

import numpy as np


def _windows(padded, pool_h, pool_w, stride, OH, OW):
    """For each place in a window the elements that lie there: views (N, C, OH, OW)."""
    for k in range(pool_h):
        for l in range(pool_w):
            yield padded[:, :, k : k + (OH - 1) * stride + 1 : stride, l : l + (OW - 1) * stride + 1 : stride]


def average_pooling_forward(x, pool_h, pool_w, stride, pad, out):
    padded = np.pad(x, [(0, 0), (0, 0), (pad, pad), (pad, pad)])
    out[...] = sum(_windows(padded, pool_h, pool_w, stride, *out.shape[2:])) / (pool_h * pool_w)


def average_pooling_backward(dout, pool_h, pool_w, stride, pad, dx):
    N, C, H, W = dx.shape
    padded = np.zeros((N, C, H + 2 * pad, W + 2 * pad), dx.dtype)
    for window in _windows(padded, pool_h, pool_w, stride, *dout.shape[2:]):
        window += dout / (pool_h * pool_w)
    dx[...] = padded[:, :, pad : pad + H, pad : pad + W]
