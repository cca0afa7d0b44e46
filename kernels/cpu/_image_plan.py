"""The geometry of a convolution as numbers and tables, which its loops follow. Found once for each geometry."""

import functools
import itertools
import math
from typing import NamedTuple

import numpy as np

# Columns of the table of phases.
ROWS, COLUMNS, FIRST_ROW, TAP_ROWS, TAP_ROW, ROW_TERMS, TERMS_AT, OUT_AT = range(8)

STRIPE_PIXELS = 128  # of outputs transposed at once, if a row has no more


class Plan(NamedTuple):
    """Filters that slide over groups of channels of an image; all in elements.

    They see it through a copy of its rows, (rows, channels, pitch), with zeros beside each. Rows of padding are not
    copied: sums leave out the taps that lie there.

    The gradient for the input is such a convolution too, of the gradient for the output with the filters turned round.
    Where the stride is (sh, sw) it falls apart into sh · sw phases: each has its share of the taps, for its share of
    the pixels. A forward pass has one phase.
    """

    groups: int
    channels: int  # of a group, as all that follows
    height: int
    width: int
    left: int  # zeros on the left of a copied row; negative: so many columns are not copied
    pitch: int
    row_step: int  # of the image, for one row of outputs
    column_step: int
    first_row: int  # of the image that a phase's first row of outputs sees, and that its last one sees
    last_row: int
    filters: int
    W_group: int  # from one group to the next in W
    W_filter: int
    out_rows: int  # of the largest phase
    out_columns: int
    out_plane: int
    out_row: int  # from one row of a phase to the next
    out_column: int


class _Axis(NamedTuple):
    """One phase along one axis: output i sees the places first + i · step + t · tap_step of the image."""

    size: int  # outputs
    first: int
    taps: tuple[int, ...]  # of the kernel, in the order of the places
    tap_step: int
    out: int  # where output 0 lies


def _forward_axis(size, kernel, pad, dilation):
    return [_Axis(size, -pad, tuple(range(kernel)), dilation, 0)]


def _backward_axis(size, kernel, stride, pad, dilation):
    phases = []
    for pixel in range(min(stride, size)):
        taps = [t for t in reversed(range(kernel)) if (pixel + pad - t * dilation) % stride == 0]
        first = (pixel + pad - taps[0] * dilation) // stride if taps else 0
        tap_step = dilation // math.gcd(stride, dilation)
        phases.append(_Axis((size - pixel + stride - 1) // stride, first, tuple(taps), tap_step, pixel))
    return phases


def _span(phases, step):
    """The first and the last place that the first and the last output see."""
    lasts = [p.first + (p.size - 1) * step + max(len(p.taps) - 1, 0) * p.tap_step for p in phases]
    return min(p.first for p in phases), max(lasts)


@functools.lru_cache(maxsize=64)
def forward_plan(x_size, W_shape, groups, stride, pad, dilation, out_size):
    """(plan, table of phases, offsets of all terms in the copied image, their places in W) of a forward pass."""
    (F, channels, KH, KW) = W_shape
    axes = [_forward_axis(*along) for along in zip(out_size, (KH, KW), pad, dilation, strict=True)]
    return _plan(
        x_size, out_size, groups, channels, F // groups, W_shape, (channels * KH * KW, KH * KW), axes, stride, (1, 1)
    )


@functools.lru_cache(maxsize=64)
def backward_plan(dx_size, W_shape, groups, stride, pad, dilation, dout_size):
    """The same of the gradient for the input, where dout is the image and dx the output."""
    (F, channels, KH, KW) = W_shape
    axes = [_backward_axis(*along) for along in zip(dx_size, (KH, KW), stride, pad, dilation, strict=True)]
    return _plan(
        dout_size, dx_size, groups, F // groups, channels, W_shape, (KH * KW, channels * KH * KW), axes, (1, 1), stride
    )


def _plan(image_size, out_size, groups, channels, filters, W_shape, W_strides, axes, steps, out_steps):
    W_filter, W_channel = W_strides
    (first_row, last_row), (first_column, last_column) = (_span(a, step) for a, step in zip(axes, steps, strict=True))
    pitch = last_column - first_column + 1
    phases, offsets, places = [], [], []
    for rows, columns in itertools.product(*axes):
        at = rows.out * out_size[1] + columns.out
        row_terms = channels * len(columns.taps)
        phases.append((rows.size, columns.size, rows.first, len(rows.taps), rows.tap_step, row_terms, len(offsets), at))
        for (t, r), c, (u, s) in itertools.product(enumerate(rows.taps), range(channels), enumerate(columns.taps)):
            column = columns.first - first_column + u * columns.tap_step
            offsets.append((t * rows.tap_step * channels + c) * pitch + column)
            places.append(c * W_channel + r * W_shape[3] + s)
    plan = Plan(
        groups=groups, channels=channels, height=image_size[0], width=image_size[1],
        left=-first_column, pitch=pitch, row_step=steps[0], column_step=steps[1],
        first_row=first_row, last_row=last_row, filters=filters,
        W_group=W_shape[0] // groups * W_shape[1] * W_shape[2] * W_shape[3], W_filter=W_filter,
        out_rows=max(p.size for p in axes[0]), out_columns=max(p.size for p in axes[1]),
        out_plane=out_size[0] * out_size[1], out_row=out_size[1] * out_steps[0], out_column=out_steps[1],
    )  # fmt: skip
    return plan, np.array(phases, np.int64), np.array(offsets, np.int64), np.array(places, np.int64)


class Taps(NamedTuple):
    """How the gradient for the weights takes the taps of a kernel and the channels of a group.

    The rows of a register tile are places in the copied image that lie `run_step` apart: `run` channels, or, if there
    are more of these, taps of one row of the kernel. `runs` of them, `runs_step` apart, are all that such a row sees.
    """

    rows: int  # of the kernel
    row_step: int
    run: int
    run_step: int
    runs: int
    runs_step: int
    stripe: int  # rows of outputs that are transposed at once


@functools.lru_cache(maxsize=64)
def weights_plan(x_size, dW_shape, groups, stride, pad, dilation, out_size):
    """(plan of the forward pass, Taps, offsets of a stripe's pixels in the copied image)"""
    plan = forward_plan(x_size, dW_shape, groups, stride, pad, dilation, out_size)[0]
    _, channels, KH, KW = dW_shape
    (run, run_step), (runs, runs_step) = (channels, plan.pitch), (KW, dilation[1])
    if channels < KW:
        (run, run_step), (runs, runs_step) = (runs, runs_step), (run, run_step)
    stripe = max(1, STRIPE_PIXELS // out_size[1])
    row = plan.row_step * channels * plan.pitch
    offsets = [y * row + x * plan.column_step for y in range(stripe) for x in range(out_size[1])]
    return plan, Taps(KH, dilation[0], run, run_step, runs, runs_step, stripe), np.array(offsets, np.int64)
