"""Activations of the passes of mlp.py, over rows given by their address: y = act(x), and its gradient."""

from ._jit import jit
from ._math import exp, tanh
from ._mlp_plan import RELU, SIGMOID, TANH
from ._tile import copy_bytes, itemsize, load, store, zero_of


@jit
def activate(kind, x, x_row, y, y_row, rows, columns, one):
    """y = act(x), elementwise."""
    size = itemsize(one)
    for i in range(rows):
        copy_bytes(y + i * y_row * size, x + i * x_row * size, columns * size)
    activate_in_place(kind, y, y_row, rows, columns, one)


@jit
def activate_in_place(kind, y, y_row, rows, columns, one):
    """y = act(y), elementwise. With one address: a loop that might write what it reads later is not vectorised."""
    size, zero = itemsize(one), zero_of(one)
    if y_row == columns:
        rows, columns = 1, rows * columns
    for i in range(rows):
        y_i = y + i * y_row * size
        if kind == RELU:
            for j in range(columns):
                store(y_i, j, zero if load(y_i, j, one) <= zero else load(y_i, j, one))
        elif kind == SIGMOID:
            for j in range(columns):
                store(y_i, j, one / (one + exp(-load(y_i, j, one))))
        elif kind == TANH:
            for j in range(columns):
                store(y_i, j, tanh(load(y_i, j, one)))


@jit
def activation_gradient(kind, g, g_row, y, y_row, rows, columns, one):
    """g = g · act'(x), of y = act(x), elementwise."""
    size, zero = itemsize(one), zero_of(one)
    for i in range(rows):
        g_i, y_i = g + i * g_row * size, y + i * y_row * size
        if kind == RELU:
            for j in range(columns):
                store(g_i, j, zero if load(y_i, j, one) <= zero else load(g_i, j, one))
        elif kind == SIGMOID:
            for j in range(columns):
                store(g_i, j, load(g_i, j, one) * load(y_i, j, one) * (one - load(y_i, j, one)))
        elif kind == TANH:
            for j in range(columns):
                store(g_i, j, load(g_i, j, one) * (one - load(y_i, j, one) * load(y_i, j, one)))
