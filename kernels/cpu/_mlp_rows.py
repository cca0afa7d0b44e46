"""The first pass of a training step, over a share of the batch's rows: forward, loss, gradients of all stages."""

from ._gemm import BIAS, BIAS_RELU, BIAS_SIGMOID, RELU_GRADIENT, SIGMOID_GRADIENT, STORE
from ._jit import jit
from ._mlp_activation import activate, activate_in_place, activation_gradient
from ._mlp_loss import loss_and_gradient
from ._mlp_plan import (
    ACT,
    B_AT,
    BEFORE,
    IN,
    NONE,
    OUT,
    RELU,
    SIGMOID,
    W_AT,
    W_COL,
    W_ROW,
    WIDTH,
    address,
    memory_of,
    share,
)
from ._tile import call, copy_bytes, one_of


@jit
def stage_forward(engine, stage, x, x_row, y, y_row, rows, scratch, one):
    """y = act(x · W + b) of some rows."""
    act = stage[ACT]
    if stage[W_AT] == 0:
        activate(act, x, x_row, y, y_row, rows, stage[OUT], one)
        return
    ending = STORE
    if stage[B_AT] != 0:
        ending = BIAS_RELU if act == RELU else BIAS_SIGMOID if act == SIGMOID else BIAS
    call(
        engine, rows, stage[OUT], stage[IN], x, x_row, 1, stage[W_AT], stage[W_ROW], stage[W_COL],
        y, y_row, ending, stage[B_AT], 0, scratch, one,
    )  # fmt: skip
    if stage[B_AT] == 0 and act != NONE:
        activate_in_place(act, y, y_row, rows, stage[OUT], one)


@jit
def rows_pass(engine, table, x, t, t_rows, order, first, work, n, part, parts, scratch):
    """Forward, loss and gradients of one share of the batch's rows."""
    r0, r1 = share(n, part, parts), share(n, part + 1, parts)
    rows, one, size = r1 - r0, one_of(x), x.itemsize
    ys, gs, xs, xs_row, nll, sums = memory_of(table, work, n)
    a, a_row = address(x) + r0 * x.shape[1] * size, x.shape[1]
    if order.size > 0:
        a, a_row = xs + r0 * xs_row * size, xs_row
        for r in range(rows):
            source = address(x) + order[first + r0 + r] * x.shape[1] * size
            copy_bytes(a + r * a_row * size, source, x.shape[1] * size)
    last = table.shape[0] - 1
    for s in range(last + 1):
        stage = table[s]
        y, y_row = ys + (n * stage[BEFORE] + r0 * stage[WIDTH]) * size, stage[WIDTH]
        stage_forward(engine, stage, a, a_row, y, y_row, rows, scratch, one)
        a, a_row = y, y_row

    classes = table[last, OUT]
    start = n * table[last, BEFORE] + r0 * classes
    z = work[start : start + rows * classes].reshape(rows, classes)
    start += (gs - ys) // size
    dz = work[start : start + rows * classes].reshape(rows, classes)
    loss_and_gradient(z, t, t_rows, order, first + r0, one / x.dtype.type(n), dz, nll[r0:r1], sums[r0:r1])
    if table[last, ACT] != NONE:
        activation_gradient(table[last, ACT], address(dz), classes, a, a_row, rows, classes, one)
    for s in range(last, 0, -1):
        stage, below = table[s], table[s - 1]
        g, g_row = gs + (n * stage[BEFORE] + r0 * stage[WIDTH]) * size, stage[WIDTH]
        at, row, act = (n * below[BEFORE] + r0 * below[WIDTH]) * size, below[WIDTH], below[ACT]
        if stage[W_AT] == 0:
            for r in range(rows):
                copy_bytes(gs + at + r * row * size, g + r * g_row * size, below[OUT] * size)
            activation_gradient(act, gs + at, row, ys + at, row, rows, below[OUT], one)
        else:
            ending = RELU_GRADIENT if act == RELU else SIGMOID_GRADIENT if act == SIGMOID else STORE
            call(
                engine, rows, stage[IN], stage[OUT], g, g_row, 1, stage[W_AT], stage[W_COL], stage[W_ROW],
                gs + at, row, ending, ys + at, row, scratch, one,
            )  # fmt: skip
