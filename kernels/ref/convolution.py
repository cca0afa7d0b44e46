"""Convolution in NumPy, by im2col. Sibling: kernels/cpu/convolution.py.

out[n,f,y,x] = b[f] + sum_crs x[n, c, y·stride + r·dilation - pad, x·stride + s·dilation - pad] · W[f,c,r,s]
convolution_relu: max(that, 0)      dx, dW, db: its gradients; x outside of the image is 0

x, dx: (N, C, H, W); W, dW: (F, C/groups, KH, KW); b, db: (F,); out, dout: (N, F, OH, OW). stride, pad, dilation: pairs
(vertical, horizontal). The groups follow from the shapes: the g-th part of the F filters sees the g-th part of the
channels. Book 1, section 7.4; the names of its im2col: Chellapilla, Puri, Simard, IWFHR 2006.
"""

import numpy as np

from .relu import relu_forward


def _taps(kernel, stride, dilation, out_size):
    """For every tap (r, s) of the kernel: where in the padded image the outputs find their value, as slices."""
    for r in range(kernel[0]):
        for s in range(kernel[1]):
            starts = r * dilation[0], s * dilation[1]
            yield (
                r,
                s,
                *(
                    slice(start, start + step * (n - 1) + 1, step)
                    for start, step, n in zip(starts, stride, out_size, strict=True)
                ),
            )


def _padded(x, pad):
    return np.pad(x, ((0, 0), (0, 0), (pad[0], pad[0]), (pad[1], pad[1])))


def _columns(x, kernel, stride, pad, dilation, out_size, groups):
    """For each group a matrix (N·OH·OW, C/groups·KH·KW): a row of all that an output is computed from."""
    N, C = x.shape[:2]
    padded = _padded(x, pad)
    col = np.empty((N, *out_size, C, *kernel), x.dtype)
    for r, s, rows, columns in _taps(kernel, stride, dilation, out_size):
        col[..., r, s] = padded[:, :, rows, columns].transpose(0, 2, 3, 1)
    return [part.reshape(N * out_size[0] * out_size[1], -1) for part in np.split(col, groups, axis=3)]


def _as_matrix(a):
    """(N, F, OH, OW) as (N·OH·OW, F)."""
    return a.transpose(0, 2, 3, 1).reshape(-1, a.shape[1])


def convolution_forward(x, W, b, stride, pad, dilation, out):
    groups, kernel, (N, F, *out_size) = x.shape[1] // W.shape[1], W.shape[2:], out.shape
    columns = _columns(x, kernel, stride, pad, dilation, out_size, groups)
    parts = [col @ w.reshape(len(w), -1).T for col, w in zip(columns, np.split(W, groups), strict=True)]
    out[...] = (np.concatenate(parts, axis=1) + b).reshape(N, *out_size, F).transpose(0, 3, 1, 2)


def convolution_relu_forward(x, W, b, stride, pad, dilation, out):
    convolution_forward(x, W, b, stride, pad, dilation, out)
    relu_forward(out, out)


def convolution_backward_input(dout, W, stride, pad, dilation, dx):
    (N, C, H, width), kernel, out_size = dx.shape, W.shape[2:], dout.shape[2:]
    groups = C // W.shape[1]
    parts = [
        _as_matrix(d) @ w.reshape(len(w), -1)
        for d, w in zip(np.split(dout, groups, axis=1), np.split(W, groups), strict=True)
    ]
    col = np.concatenate(parts, axis=1).reshape(N, *out_size, C, *kernel)
    padded = _padded(np.zeros_like(dx), pad)
    for r, s, rows, columns in _taps(kernel, stride, dilation, out_size):
        padded[:, :, rows, columns] += col[..., r, s].transpose(0, 3, 1, 2)
    dx[...] = padded[:, :, pad[0] : pad[0] + H, pad[1] : pad[1] + width]


def convolution_backward_params(x, dout, stride, pad, dilation, dW, db):
    groups = x.shape[1] // dW.shape[1]
    columns = _columns(x, dW.shape[2:], stride, pad, dilation, dout.shape[2:], groups)
    for w, d, col in zip(np.split(dW, groups), np.split(dout, groups, axis=1), columns, strict=True):
        w[...] = (_as_matrix(d).T @ col).reshape(w.shape)
    np.sum(dout, axis=(0, 2, 3), out=db)
