"""The losses of some rows in one go, and their gradient: softmax with cross-entropy, squared errors."""

import math

from ._dtype import itemsize, zero_of
from ._jit import jit
from ._math import exp, log
from ._memory import load, store
from ._reduce import cross_entropy_sum, row_max, row_sum, squared_distance


@jit
def labels_fit(t, t_rows, order, first, n, classes, one):
    """Whether the labels of a batch are in range, or finite. Addresses as of `cross_entropy`."""
    good = True
    for r in range(first, first + n):
        label = load(order, r, first) if order != 0 else r
        if t_rows == 0:
            good &= (load(t, label, label) >= 0) & (load(t, label, label) < classes)
        else:
            for c in range(classes):
                good &= math.isfinite(load(t_rows, label * classes + c, one))
    return good


@jit
def squared_error(y, g, rows, columns, t_rows, order, first, scale, losses):
    """losses = the sums of (y - t)² of each row; g = scale · 2 · (y - t). Arguments as of `cross_entropy`."""
    row, zero = columns * itemsize(scale), zero_of(scale)
    for r in range(rows):
        label = load(order, first + r, first) if order != 0 else first + r
        y_r, g_r, t_r = y + r * row, g + r * row, t_rows + label * row
        store(losses, r, squared_distance(y_r, t_r, columns, zero))
        for c in range(columns):
            store(g_r, c, (scale + scale) * (load(y_r, c, zero) - load(t_r, c, zero)))


@jit
def cross_entropy(z, g, rows, classes, t, t_rows, order, first, scale, nll, sums):
    """nll = the losses of the rows of scores z; g = scale · (softmax(z) - t).

    All but numbers of rows are addresses. t: class indices, or t_rows: label rows; the other 0. Those of row r have the
    number order[first + r], or first + r where order is 0.
    """
    size, zero = itemsize(scale), zero_of(scale)
    row = classes * size
    for r in range(rows):  # the part of the loss that needs the scores, before g is overwritten
        z_r, g_r = z + r * row, g + r * row
        m = row_max(z_r, classes, zero)
        for c in range(classes):
            store(g_r, c, load(z_r, c, zero) - m)
        label = load(order, first + r, first) if order != 0 else first + r
        if t_rows == 0:
            store(nll, r, -load(g_r, load(t, label, label), zero))
        else:
            store(nll, r, cross_entropy_sum(t_rows + label * row, g_r, classes, zero, zero))
    for i in range(rows * classes):
        store(g, i, exp(load(g, i, zero)))
    for r in range(rows):
        g_r = g + r * row
        s = row_sum(g_r, classes, zero)
        store(sums, r, s)
        label = load(order, first + r, first) if order != 0 else first + r
        if t_rows == 0:
            q, c = scale / s, load(t, label, label)
            for i in range(classes):
                store(g_r, i, load(g_r, i, zero) * q)
            store(g_r, c, load(g_r, c, zero) - scale)
        else:
            t_r = t_rows + label * row
            total = row_sum(t_r, classes, zero)
            q = total / s
            for c in range(classes):
                store(g_r, c, scale * (load(g_r, c, zero) * q - load(t_r, c, zero)))
            store(nll, r, load(nll, r, zero) + total * log(s))
    if t_rows == 0:
        for r in range(rows):
            store(nll, r, load(nll, r, zero) + log(load(sums, r, zero)))
