"""Maximum over windows of images, in NumPy. Sibling: kernels/cpu/max_pooling.py.

out[.., i, j] = max over k < pool_h, l < pool_w of x[.., i · stride + k - pad, j · stride + l - pad]
argmax = k · pool_w + l of that element: of equal ones the first, of NaNs the last      dx[that element] += dout

x, dx: (N, C, H, W); out, dout, argmax: (N, C, OH, OW); argmax of an unsigned dtype. Padding is never the maximum.
"""

import numpy as np


def max_pooling_forward(x, pool_h, pool_w, stride, pad, out, argmax):
    _, _, H, W = x.shape
    for i, j in np.ndindex(out.shape[2:]):
        top, left = i * stride - pad, j * stride - pad
        out[:, :, i, j] = -np.inf
        argmax[:, :, i, j] = max(0, -top) * pool_w + max(0, -left)  # the first that is no padding
        for k in range(max(0, -top), min(pool_h, H - top)):
            for l in range(max(0, -left), min(pool_w, W - left)):
                a = x[:, :, top + k, left + l]
                wins = (a > out[:, :, i, j]) | np.isnan(a)
                out[:, :, i, j][wins] = a[wins]
                argmax[:, :, i, j][wins] = k * pool_w + l


def max_pooling_backward(dout, argmax, pool_h, pool_w, stride, pad, dx):
    dx[...] = 0
    for n, c, i, j in np.ndindex(dout.shape):
        k, l = divmod(int(argmax[n, c, i, j]), pool_w)
        dx[n, c, i * stride - pad + k, j * stride - pad + l] += dout[n, c, i, j]
