"""The geometry of a convolution as numbers and tables, which its loops follow. Found once for each geometry."""

import functools
import itertools
import math
from typing import NamedTuple

import numpy as np

from ._simd import VECTORS

# Columns of the table of phases.
ROWS, COLUMNS, FIRST_ROW, TAP_ROWS, TAP_ROW, ROW_TERMS, TERMS_AT, OUT_AT = range(8)

FEW_TERMS = 64  # below, sums are too short to pay for the transposition of what they give
STRIPE_PIXELS = 128  # of outputs transposed at once, if a row has no more
COPIED_ELEMENTS = 1 << 17  # of planes copied at once: 512 KB in float32

# A tile whose vectors run over pixels: most of its vectors, and most filters, its rows. As many sums as in _tile.py.
PIXEL_VECTORS = 3
PIXEL_ROWS = 2 * VECTORS.tile_rows // PIXEL_VECTORS


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
    in_planes: bool  # copied as (channels, rows, pitch), padded below and above too, for vectors that run over pixels
    copied_rows: int  # of the copy in planes
    band: int  # rows of outputs that it is enough for


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
    """The first place that output 0 sees, in any phase, and the last that the last output of the largest phase may."""
    size = max(p.size for p in phases)
    lasts = [p.first + (size - 1) * step + max(len(p.taps) - 1, 0) * p.tap_step for p in phases]
    return min(p.first for p in phases), max(lasts)


@functools.lru_cache(maxsize=64)
def forward_plan(x_size, W_shape, groups, stride, pad, dilation, out_size, lanes):
    """(plan, table of phases, in planes one of pieces, tables of terms, the terms' places in W) of a forward pass."""
    F, channels, KH, KW = W_shape
    axes = [_forward_axis(*along) for along in zip(out_size, (KH, KW), pad, dilation, strict=True)]
    strides = channels * KH * KW, KH * KW
    return _plan(x_size, out_size, groups, channels, F // groups, W_shape, strides, axes, stride, (1, 1), lanes)


@functools.lru_cache(maxsize=64)
def backward_plan(dx_size, W_shape, groups, stride, pad, dilation, dout_size, lanes):
    """The same of the gradient for the input, where dout is the image and dx the output."""
    F, channels, KH, KW = W_shape
    axes = [_backward_axis(*along) for along in zip(dx_size, (KH, KW), stride, pad, dilation, strict=True)]
    strides = KH * KW, channels * KH * KW
    return _plan(dout_size, dx_size, groups, F // groups, channels, W_shape, strides, axes, (1, 1), stride, lanes)


def _plan(image_size, out_size, groups, channels, filters, W_shape, W_strides, axes, steps, out_steps, lanes):
    W_filter, W_channel = W_strides
    (first_row, last_row), (first_column, last_column) = (_span(a, step) for a, step in zip(axes, steps, strict=True))
    pitch = last_column - first_column + 1
    out_rows, out_columns = (max(p.size for p in phases) for phases in axes)
    in_planes = steps == (1, 1) and (filters <= lanes or channels * W_shape[2] * W_shape[3] < FEW_TERMS)
    margin = last_row - first_row + 1 - out_rows
    band = max(1, min(out_rows, COPIED_ELEMENTS // (channels * pitch) - margin))
    # From a row of the copied image to the next, from a channel to the next.
    row, plane = (pitch, (band + margin) * pitch) if in_planes else (channels * pitch, pitch)
    phases, terms, places = [], [], []
    for rows, columns in itertools.product(*axes):
        at = rows.out * out_size[1] + columns.out
        row_terms = channels * len(columns.taps)
        phases.append((rows.size, columns.size, rows.first, len(rows.taps), rows.tap_step, row_terms, len(places), at))
        offsets = []
        for (t, r), c, (u, s) in itertools.product(enumerate(rows.taps), range(channels), enumerate(columns.taps)):
            column = columns.first - first_column + u * columns.tap_step
            offsets.append(t * rows.tap_step * row + c * plane + column)
            places.append(c * W_channel + r * W_shape[3] + s)
        terms.append(_terms_of_planes(offsets) if in_planes else _terms(offsets, lanes))
    plan = Plan(
        groups=groups, channels=channels, height=image_size[0], width=image_size[1],
        left=-first_column, pitch=pitch, row_step=steps[0], column_step=steps[1],
        first_row=first_row, last_row=last_row, filters=filters,
        W_group=W_shape[0] // groups * W_shape[1] * W_shape[2] * W_shape[3], W_filter=W_filter,
        out_rows=out_rows, out_columns=out_columns,
        out_plane=out_size[0] * out_size[1], out_row=out_size[1] * out_steps[0], out_column=out_steps[1],
        in_planes=in_planes, copied_rows=band + margin, band=band,
    )  # fmt: skip
    pieces = [_pieces(band, out_columns, pitch, lanes)] if in_planes else []
    return plan, np.array(phases, np.int64), *pieces, np.concatenate(terms, axis=1), np.array(places, np.int64)


def _pieces(rows, columns, pitch, lanes):
    """Where the lanes of each vector over `rows` rows of pixels go, as one row: (vectors, pieces, (place, mask)).

    The rows are `pitch` apart, of which the first `columns` pixels count. A piece is what a vector has of one row: its
    place in the output is that of lane 0, were it part of that row, and its mask has a bit for each lane that is.
    """
    first = np.arange(0, rows * pitch, lanes)[:, None]
    row = first // pitch + np.arange((lanes + pitch - 2) // pitch + 1)
    lane = row * pitch - first  # of the row's first pixel; negative: before the vector
    begin, end = (np.clip(bound, 0, lanes) for bound in (lane, lane + columns))
    mask = np.where(row < rows, (1 << end) - (1 << begin), 0)
    return np.stack([row * columns - lane, mask], axis=2)


def _terms(offsets, lanes):
    """Tables for tiles of one and of two vectors: places in the image, and rows of the other factor."""
    offsets = np.array(offsets, np.int64)
    rows = np.arange(len(offsets)) * lanes
    return np.stack([np.stack([offsets, width * rows], axis=1) for width in (1, 2)])


def _terms_of_planes(offsets):
    """A table for tiles with filters as rows: columns of PIXEL_ROWS weights, and places in the image."""
    offsets = np.array(offsets, np.int64)
    return np.stack([np.arange(len(offsets)) * PIXEL_ROWS, offsets], axis=1)[None]


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
def weights_plan(x_size, dW_shape, groups, stride, pad, dilation, out_size, lanes):
    """(plan of the forward pass, Taps, tables of a stripe's pixels in the copied image, and of none)"""
    plan = forward_plan(x_size, dW_shape, groups, stride, pad, dilation, out_size, lanes)[0]
    _, channels, KH, KW = dW_shape
    (run, run_step), (runs, runs_step) = (channels, plan.pitch), (KW, dilation[1])
    if channels < KW:
        (run, run_step), (runs, runs_step) = (runs, runs_step), (run, run_step)
    stripe = max(1, STRIPE_PIXELS // out_size[1])
    row = plan.row_step * channels * plan.pitch
    offsets = [y * row + x * plan.column_step for y in range(stripe) for x in range(out_size[1])]
    taps = Taps(KH, dilation[0], run, run_step, runs, runs_step, stripe)
    return plan, taps, _terms(offsets, lanes), _terms([0] * len(offsets), lanes)
