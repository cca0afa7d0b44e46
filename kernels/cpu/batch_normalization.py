"""Batch normalisation. Sibling: kernels/ref/batch_normalization.py.

out = gamma · (x - mean) / sqrt(var + eps) + beta      mean, var: of each channel, over samples and places; var biased
dbeta = sum of dout      dgamma = sum of dout · (x - mean) / sqrt(var + eps)
dx = gamma / sqrt(var + eps) · (dout - dbeta / M - (x - mean) / sqrt(var + eps) · dgamma / M)      M: values a channel

x, out, dout, dx: (N, C) or (N, C, P), contiguous; the others (C,); all of one dtype. In it a block of rows, or the
places of some samples, are summed; these sums are combined in float64 (Chan, Golub, LeVeque 1979). Inference takes mean
and var as they are given. Ioffe, Szegedy, arXiv:1502.03167.
"""

import numpy as np
from numba import prange

from ._dtype import one_of
from ._jit import jit
from ._memory import address
from ._prange import cpu_kernel
from ._reduce import plane_sum, sums_about, sums_with

# (N, C) is divided into blocks of at most so many rows, always alike: sums do not depend on the number of threads.
# (Blocks of columns were 3-7 times slower.)
_ROWS = 32
_PLACES = 1024  # of samples whose places are summed in x's dtype


@jit
def _blocks(N):
    """(number of blocks, rows of each but the last)."""
    blocks = (N + _ROWS - 1) // _ROWS
    rows = (N + blocks - 1) // blocks
    return (N + rows - 1) // rows, rows


@jit
def _block_statistics(x, start, stop, mean, rest, squares, block):
    """Of rows start to stop: the mean of each column, rounded, and the sums of distances from it and of their squares.

    The first of these corrects the mean, whose rounding would cost the variance half its digits where it is far from 0.
    """
    C = x.shape[1]
    for c in range(C):
        mean[block, c] = x[start, c]
        rest[block, c] = squares[block, c] = 0
    for n in range(start + 1, stop):
        for c in range(C):
            mean[block, c] += x[n, c]
    share = x.dtype.type(1 / (stop - start))
    for c in range(C):
        mean[block, c] *= share
    for n in range(start, stop):
        for c in range(C):
            d = x[n, c] - mean[block, c]
            rest[block, c] += d
            squares[block, c] += d * d


@jit
def _combine(means, rests, squares, rows, N, mean, var):
    blocks, C = means.shape
    m, s = np.zeros(C), np.zeros(C)
    for block in range(blocks):
        before = block * rows
        size = min(rows, N - before)
        share, weight, inverse = size / (before + size), before * (size / (before + size)), 1 / size
        for c in range(C):
            rest = np.float64(rests[block, c])
            d = means[block, c] + rest * inverse - m[c]
            m[c] += d * share
            s[c] += squares[block, c] - rest * rest * inverse + d * d * weight
    for c in range(C):
        mean[c], var[c] = m[c], s[c] / N


@jit
def _normalize_row(x, n, mean, scale, beta, out):
    for c in range(x.shape[1]):
        out[n, c] = (x[n, c] - mean[c]) * scale[c] + beta[c]


@jit
def _scale(gamma, var, eps):
    return gamma / np.sqrt(var + eps)


@cpu_kernel(parallel_above=20_000)
def _forward_rows(x, gamma, beta, eps, out, mean, var):
    N, C = x.shape
    blocks, rows = _blocks(N)
    means, rests, squares = (
        np.empty((blocks, C), x.dtype),
        np.empty((blocks, C), x.dtype),
        np.empty((blocks, C), x.dtype),
    )
    for block in prange(blocks):
        _block_statistics(x, block * rows, min(N, (block + 1) * rows), means, rests, squares, block)
    _combine(means, rests, squares, rows, N, mean, var)
    scale = _scale(gamma, var, eps)
    for n in prange(N):
        _normalize_row(x, n, mean, scale, beta, out)


@cpu_kernel(parallel_above=20_000)
def _inference_rows(x, gamma, beta, mean, var, eps, out):
    scale = _scale(gamma, var, eps)
    for n in prange(x.shape[0]):
        _normalize_row(x, n, mean, scale, beta, out)


@jit
def _samples_together(P):
    """How many samples' places are summed in the arrays' dtype."""
    return max(1, _PLACES // P)


@jit
def _channel_statistics(x, channel):
    """The mean of a channel, and the sum of squared distances from it."""
    N, C, P = x.shape
    m = s = 0.0
    group = _samples_together(P)
    for n in range(0, N, group):
        samples = min(group, N - n)
        planes, size = address(x) + (n * C + channel) * P * x.itemsize, samples * P
        mean = x.dtype.type(plane_sum(planes, P, samples, C * P, one_of(x)) / size)
        rest, squares = sums_about(planes, P, samples, C * P, mean)
        correction = np.float64(rest) / size
        apart = mean + correction - m
        m += apart * (samples / (n + samples))
        s += squares - correction * rest + apart * apart * (size * (n / (n + samples)))
    return m, s


@jit
def _normalize_channel(x, channel, mean, scale, beta, out):
    for n in range(x.shape[0]):
        for p in range(x.shape[2]):
            out[n, channel, p] = (x[n, channel, p] - mean) * scale + beta


@cpu_kernel(parallel_above=20_000)
def _forward_planes(x, gamma, beta, eps, out, mean, var):
    N, C, P = x.shape
    for c in prange(C):
        m, s = _channel_statistics(x, c)
        mean[c], var[c] = m, s / (N * P)
        _normalize_channel(x, c, mean[c], gamma[c] / np.sqrt(var[c] + eps), beta[c], out)


@cpu_kernel(parallel_above=20_000)
def _inference_planes(x, gamma, beta, mean, var, eps, out):
    for c in prange(x.shape[1]):
        _normalize_channel(x, c, mean[c], gamma[c] / np.sqrt(var[c] + eps), beta[c], out)


@jit
def _block_sums(dout, x, mean, start, stop, sums, products, block):
    """Of rows start to stop: for each column the sums of dout, and of dout · (x - mean)."""
    C = x.shape[1]
    for c in range(C):
        sums[block, c] = products[block, c] = 0
    for n in range(start, stop):
        for c in range(C):
            sums[block, c] += dout[n, c]
            products[block, c] += dout[n, c] * (x[n, c] - mean[c])


@jit
def _coefficients(sum_dout, sum_product, M, gamma, var, eps):
    """(dgamma, a, b, c) such that dx = a · dout + b · (x - mean) + c."""
    inverse = 1 / np.sqrt(np.float64(var) + eps)
    a = gamma * inverse
    return sum_product * inverse, a, -a * inverse * inverse * (sum_product / M), -a * (sum_dout / M)


@jit
def _combine_sums(sums, products, M, gamma, var, eps, dgamma, dbeta, a, b, c):
    sum_dout, sum_product = sums[0].astype(np.float64), products[0].astype(np.float64)
    for block in range(1, sums.shape[0]):
        for i in range(gamma.size):
            sum_dout[i] += sums[block, i]
            sum_product[i] += products[block, i]
    for i in range(gamma.size):
        dbeta[i] = sum_dout[i]
        dgamma[i], a[i], b[i], c[i] = _coefficients(sum_dout[i], sum_product[i], M, gamma[i], var[i], eps)


@jit
def _row_gradient(dout, x, n, mean, a, b, c, dx):
    for i in range(x.shape[1]):
        dx[n, i] = dout[n, i] * a[i] + (x[n, i] - mean[i]) * b[i] + c[i]


@cpu_kernel(parallel_above=20_000)
def _backward_rows(dout, x, gamma, mean, var, eps, dx, dgamma, dbeta):
    N, C = x.shape
    blocks, rows = _blocks(N)
    sums, products = np.empty((blocks, C), x.dtype), np.empty((blocks, C), x.dtype)
    for block in prange(blocks):
        _block_sums(dout, x, mean, block * rows, min(N, (block + 1) * rows), sums, products, block)
    a, b, c = np.empty(C, x.dtype), np.empty(C, x.dtype), np.empty(C, x.dtype)
    _combine_sums(sums, products, N, gamma, var, eps, dgamma, dbeta, a, b, c)
    for n in prange(N):
        _row_gradient(dout, x, n, mean, a, b, c, dx)


@jit
def _channel_sums(dout, x, channel, mean):
    """The sums of dout, and of dout · (x - mean)."""
    N, C, P = x.shape
    sum_dout = sum_product = 0.0
    group = _samples_together(P)
    for n in range(0, N, group):
        planes = (n * C + channel) * P * x.itemsize
        total, product = sums_with(address(dout) + planes, address(x) + planes, P, min(group, N - n), C * P, mean)
        sum_dout += total
        sum_product += product
    return sum_dout, sum_product


@jit
def _channel_gradient(dout, x, channel, mean, a, b, c, dx):
    for n in range(x.shape[0]):
        for p in range(x.shape[2]):
            dx[n, channel, p] = dout[n, channel, p] * a + (x[n, channel, p] - mean) * b + c


@cpu_kernel(parallel_above=20_000)
def _backward_planes(dout, x, gamma, mean, var, eps, dx, dgamma, dbeta):
    N, C, P = x.shape
    real = x.dtype.type
    for channel in prange(C):
        sum_dout, sum_product = _channel_sums(dout, x, channel, mean[channel])
        dbeta[channel] = sum_dout
        dgamma[channel], a, b, c = _coefficients(sum_dout, sum_product, N * P, gamma[channel], var[channel], eps)
        _channel_gradient(dout, x, channel, mean[channel], real(a), real(b), real(c), dx)


def batch_normalization_forward(x, gamma, beta, eps, out, mean, var):
    (_forward_rows if x.ndim == 2 else _forward_planes)(x, gamma, beta, eps, out, mean, var)


def batch_normalization_inference(x, gamma, beta, mean, var, eps, out):
    (_inference_rows if x.ndim == 2 else _inference_planes)(x, gamma, beta, mean, var, eps, out)


def batch_normalization_backward(dout, x, gamma, mean, var, eps, dx, dgamma, dbeta):
    backward = _backward_rows if x.ndim == 2 else _backward_planes
    backward(dout, x, gamma, mean, var, eps, dx, dgamma, dbeta)
