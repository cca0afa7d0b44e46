"""Softmax with cross-entropy of some rows in one go: losses, and the gradient of the scores."""

import math

from ._jit import jit
from ._math import log, row_max
from ._tile import zero_of
from .softmax import exp_in_place


@jit
def labels_fit(t, t_rows, order, first, n, classes):
    """Whether the labels of a batch are in range, or finite."""
    good = True
    for r in range(first, first + n):
        label = order[r] if order.size > 0 else r
        if t_rows.size == 0:
            good &= (t[label] >= 0) & (t[label] < classes)
        else:
            for c in range(classes):
                good &= math.isfinite(t_rows[label, c])
    return good


@jit
def loss_and_gradient(z, t, t_rows, order, first, scale, g, nll, sums):
    """nll = the losses of the rows of scores z; g = scale · (softmax(z) - t). Labels: see `mlp_train`."""
    n, classes = z.shape
    by_index, zero = t_rows.size == 0, zero_of(g)
    for r in range(n):  # the part of the loss that needs the scores, before g is overwritten
        m = row_max(z[r])
        for c in range(classes):
            g[r, c] = z[r, c] - m
        label = order[first + r] if order.size > 0 else first + r
        if by_index:
            nll[r] = -g[r, t[label]]
        else:
            loss = zero
            for c in range(classes):
                if t_rows[label, c] != zero:  # a class of probability 0 costs nothing, however impossible its score
                    loss -= t_rows[label, c] * g[r, c]
            nll[r] = loss
    exp_in_place(g.reshape(n * classes))
    for r in range(n):
        s = zero
        for c in range(classes):
            s += g[r, c]
        sums[r] = s
        label = order[first + r] if order.size > 0 else first + r
        if by_index:
            q = scale / s
            for c in range(classes):
                g[r, c] *= q
            g[r, t[label]] -= scale
        else:
            total = zero
            for c in range(classes):
                total += t_rows[label, c]
            for c in range(classes):
                g[r, c] = scale * (g[r, c] / s * total - t_rows[label, c])
            nll[r] += total * log(s)
    if by_index:
        for r in range(n):
            nll[r] += log(sums[r])
