"""Convolution. Sibling: kernels/ref/convolution.py.

out[n,f,y,x] = b[f] + sum_crs x[n, c, y·stride + r·dilation - pad, x·stride + s·dilation - pad] · W[f,c,r,s]
convolution_relu: max(that, 0)      dx, dW, db: its gradients; x outside of the image is 0

x, dx: (N, C, H, W); W, dW: (F, C/groups, KH, KW); b, db: (F,); out, dout: (N, F, OH, OW); contiguous, float32 or
float64. stride, pad, dilation: pairs (vertical, horizontal). The groups follow from the shapes.
"""

from numba import prange

from ._jit import cpu_kernel


@cpu_kernel(parallel_above=1000)
def convolution_forward(x, W, b, stride, pad, dilation, out):
    F, group, filters = out.shape[1], W.shape[1], out.shape[1] // (x.shape[1] // W.shape[1])
    for n in prange(x.shape[0]):
        for f in range(F):
            out[n, f] = b[f]
            for k in range(group):
                c = f // filters * group + k
                for r in range(W.shape[2]):
                    for s in range(W.shape[3]):
                        for i in range(out.shape[2]):
                            y = i * stride[0] + r * dilation[0] - pad[0]
                            if y >= 0 and y < x.shape[2]:
                                for j in range(out.shape[3]):
                                    z = j * stride[1] + s * dilation[1] - pad[1]
                                    if z >= 0 and z < x.shape[3]:
                                        out[n, f, i, j] += x[n, c, y, z] * W[f, k, r, s]


@cpu_kernel(parallel_above=1000)
def _relu_in_place(out):
    for n in prange(out.shape[0]):
        for f in range(out.shape[1]):
            for i in range(out.shape[2]):
                for j in range(out.shape[3]):
                    if out[n, f, i, j] <= 0:
                        out[n, f, i, j] = 0


def convolution_relu_forward(x, W, b, stride, pad, dilation, out):
    convolution_forward(x, W, b, stride, pad, dilation, out)
    _relu_in_place(out)


@cpu_kernel(parallel_above=1000)
def convolution_backward_input(dout, W, stride, pad, dilation, dx):
    F, group, filters = dout.shape[1], W.shape[1], dout.shape[1] // (dx.shape[1] // W.shape[1])
    for n in prange(dx.shape[0]):
        dx[n] = 0
        for f in range(F):
            for k in range(group):
                c = f // filters * group + k
                for r in range(W.shape[2]):
                    for s in range(W.shape[3]):
                        for i in range(dout.shape[2]):
                            y = i * stride[0] + r * dilation[0] - pad[0]
                            if y >= 0 and y < dx.shape[2]:
                                for j in range(dout.shape[3]):
                                    z = j * stride[1] + s * dilation[1] - pad[1]
                                    if z >= 0 and z < dx.shape[3]:
                                        dx[n, c, y, z] += dout[n, f, i, j] * W[f, k, r, s]


@cpu_kernel(parallel_above=1000)
def convolution_backward_params(x, dout, stride, pad, dilation, dW, db):
    F, group, filters = dout.shape[1], dW.shape[1], dout.shape[1] // (x.shape[1] // dW.shape[1])
    for f in prange(F):
        db[f] = dout[:, f].sum()
        for k in range(group):
            c = f // filters * group + k
            for r in range(dW.shape[2]):
                for s in range(dW.shape[3]):
                    total = dW.dtype.type(0)
                    for n in range(x.shape[0]):
                        for i in range(dout.shape[2]):
                            y = i * stride[0] + r * dilation[0] - pad[0]
                            if y >= 0 and y < x.shape[2]:
                                for j in range(dout.shape[3]):
                                    z = j * stride[1] + s * dilation[1] - pad[1]
                                    if z >= 0 and z < x.shape[3]:
                                        total += x[n, c, y, z] * dout[n, f, i, j]
                    dW[f, k, r, s] = total
