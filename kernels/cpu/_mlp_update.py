"""What happens to parameters and gradients, over rows given by their address: norm, clipping, update."""

import numpy as np

from ._jit import jit
from ._tile import itemsize, load, store


@jit
def sum_of_squares(a, count, one):
    s = 0.0
    for i in range(count):
        v = np.float64(load(a, i, one))
        s += v * v
    return s


@jit
def scale_down(a, count, rate):
    for i in range(count):
        store(a, i, load(a, i, rate) * rate)


@jit
def move(p, p_row, p_col, grad, rows, columns, lr):
    """p <- p - lr · grad."""
    size = itemsize(lr)
    if p_col == 1 and p_row == columns:
        rows, columns = 1, rows * columns
    for i in range(rows):
        p_i, grad_i = p + i * p_row * size, grad + i * columns * size
        if p_col == 1:
            for j in range(columns):
                store(p_i, j, load(p_i, j, lr) - lr * load(grad_i, j, lr))
        else:
            for j in range(columns):
                store(p_i, j * p_col, load(p_i, j * p_col, lr) - lr * load(grad_i, j, lr))
