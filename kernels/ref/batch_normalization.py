"""Batch normalisation, in NumPy. Sibling: kernels/cpu/batch_normalization.py.

out = gamma · (x - mean) / sqrt(var + eps) + beta      mean, var: of each channel, over samples and places; var biased
dbeta = sum of dout      dgamma = sum of dout · (x - mean) / sqrt(var + eps)
dx = gamma / sqrt(var + eps) · (dout - dbeta / M - (x - mean) / sqrt(var + eps) · dgamma / M)      M: values a channel

x, out, dout, dx: (N, C) or (N, C, P); the others (C,). Inference takes mean and var as they are given.
Ioffe, Szegedy, arXiv:1502.03167.
"""

import numpy as np


def _over(x):
    return (0, *range(2, x.ndim))


def _broadcast(x, *channels):
    return [c.reshape(-1, *[1] * (x.ndim - 2)) for c in channels]


def batch_normalization_forward(x, gamma, beta, eps, out, mean, var):
    mean[...] = x.mean(axis=_over(x), dtype=np.float64)
    var[...] = np.square(x - _broadcast(x, mean)[0]).mean(axis=_over(x), dtype=np.float64)
    batch_normalization_inference(x, gamma, beta, mean, var, eps, out)


def batch_normalization_inference(x, gamma, beta, mean, var, eps, out):
    gamma, beta, mean, var = _broadcast(x, gamma, beta, mean, var)
    out[...] = gamma * (x - mean) / np.sqrt(var + eps) + beta


def batch_normalization_backward(dout, x, gamma, mean, var, eps, dx, dgamma, dbeta):
    gamma, mean, var = _broadcast(x, gamma, mean, var)
    std = np.sqrt(var + eps)
    xn = (x - mean) / std
    np.sum(dout, axis=_over(x), out=dbeta)
    np.sum(dout * xn, axis=_over(x), out=dgamma)
    M = x.size / dbeta.size
    sum_dout, sum_dout_xn = _broadcast(x, dbeta, dgamma)
    dx[...] = gamma / std * (dout - sum_dout / M - xn * sum_dout_xn / M)
