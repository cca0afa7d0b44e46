"""Activations of the passes of mlp.py, over rows given by their address: y = act(y), and its gradient.

C functions, as the passes ask for them in several places, and would have them compiled for each.
"""

from numba import types

from ._dtype import itemsize, zero_of
from ._elementwise import in_vectors
from ._jit import c_function, once
from ._math import sigmoid, tanh
from ._memory import load, store
from ._mlp_plan import RELU, SIGMOID, TANH


def _activate(kind, y, y_row, rows, columns, one):
    in_vectors()
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
                store(y_i, j, sigmoid(load(y_i, j, one)))
        elif kind == TANH:
            for j in range(columns):
                store(y_i, j, tanh(load(y_i, j, one)))


def _gradient(kind, g, g_row, y, y_row, rows, columns, one):
    in_vectors()
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


_REAL = {"f": types.float32, "d": types.float64}


@once
def compiled_activate(dtype):
    """The function at whose ``address`` y = act(y) is computed.

    One address: a loop that might write what it reads later is not vectorised.
    """
    return c_function(types.void(*[types.intp] * 5, _REAL[dtype]), _activate)


@once
def compiled_activation_gradient(dtype):
    """The function at whose ``address`` g = g · act'(x), of y = act(x), is computed."""
    return c_function(types.void(*[types.intp] * 7, _REAL[dtype]), _gradient)
