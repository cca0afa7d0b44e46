"""The geometry of a convolution as numbers and tables, which its loops follow. Found once for each geometry."""

import itertools
import math
from typing import NamedTuple

import numpy as np

from ._caches import round_up
from ._jit import jit
from ._simd import VECTORS

FEW_TERMS = 64  # below, sums are too short to pay for the transposition of what they give
FEW_PRODUCTS = 64  # of one value of the image, over a plane: below, a copy for each shift costs more than it saves
STRIPE_PIXELS = 128  # of outputs transposed at once, if a row has no more
COPY_BYTES = 512 * 1024  # of the image copied at once

# A tile whose vectors run over pixels: most of its vectors, and most filters, its rows. As many sums as in _tile.py.
PIXEL_VECTORS = 3
PIXEL_ROWS = VECTORS.tile_sums // PIXEL_VECTORS


class Plan(NamedTuple):
    """Filters that slide over groups of channels of an image; all in elements.

    They see it through a copy of its rows, (rows, channels, pitch), with zeros beside each. Rows of padding are not
    copied: sums leave out the taps that lie there.

    Or "in planes", with all padding, so that vectors can run over pixels: through one plane for each channel and each
    shift, which is a column of taps, (channels, shifts, rows, pixels that it sees of a row of outputs). In these the
    pixels follow each other as those of the output do. That pays where sums are short. Else (channels,
    1, rows, pixels that any column of taps sees): outputs between the rows are computed, too, and not stored.

    The gradient for the input is such a convolution too, of the gradient for the output with the filters turned round.
    Where the stride is (sh, sw) it falls apart into sh · sw phases: each has its share of the taps, for its share of
    the pixels. A forward pass has one phase.
    """

    groups: int
    channels: int  # of a group, as all that follows
    height: int
    width: int
    left: int  # zeros on the left of a copied row; negative: so many columns are not copied
    pitch: int  # from one copied row to the next
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
    in_planes: int
    shifts: int
    plane: int  # from one to the next
    band: int  # most rows of outputs that share a copy, so that it fits the cache
    copied_rows: int  # of the image, for so many
    copy_size: int  # scratch memory for the copy
    pixels: int  # outputs of a panel that are kept in scratch memory; in planes, of each filter
    panels: int  # of filters: two vectors of them, or in planes up to PIXEL_ROWS


class Phase(NamedTuple):
    """The outputs that lie (out_row, out_column) apart, and their taps; all others of a forward pass's have none."""

    rows: int
    columns: int
    first_row: int  # of the image, that the first row of outputs sees with its first tap
    tap_rows: int
    tap_row: int  # from one row of taps to the next, on the image
    row_terms: int  # terms of the sum in one row of taps
    terms_at: int  # the first of them in the table of terms
    out_at: int  # the first output in a filter's plane


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


class Tables(NamedTuple):
    """What a plan's loops look up."""

    phases: np.ndarray
    terms: np.ndarray  # (of tiles of one and of two vectors, if not in planes; terms, two places): see _image_tile.py
    places: np.ndarray  # of the terms in W
    shifts: np.ndarray  # in planes: the first column that each sees


class Task(NamedTuple):
    """What the passes over a call's arrays must know: these arrays, by their addresses, a plan, and its tables."""

    images: int  # what a call brings along, up to `memory`
    x: int
    W: int
    out: int
    b: int
    memory: int  # for the weights, in the order in which tiles read them
    no_memory: int  # set to 1 if there is none for scratch
    plan: Plan
    tile: int
    relu: int
    has_bias: int
    phases: int
    phase_count: int
    terms: int
    term_count: int
    places: int
    shifts: int


class WeightsTask(NamedTuple):
    """The same for the gradients of the weights."""

    images: int
    x: int
    dout: int
    dW: int
    db: int
    memory: int  # for sums
    no_memory: int
    plan: Plan
    taps: Taps
    tile: int
    terms: int
    terms_of_bias: int
    term_count: int
    places: int
    place_count: int


def record_of(kind):
    """The NumPy dtype of a NamedTuple of integers, so that compiled code knows its fields by their names."""
    fields = kind.__annotations__.items()
    return np.dtype([(name, record_of(field) if hasattr(field, "_fields") else np.int64) for name, field in fields])


PHASE, TASK, WEIGHTS_TASK = map(record_of, (Phase, Task, WeightsTask))


@jit
def ceil_div(a, b):
    return (a + b - 1) // b


@jit
def band_rows(plan, images, jobs):
    """How many rows of outputs share a copy of the image's rows: as many as fit, if there are enough jobs."""
    bands = max(ceil_div(plan.out_rows, plan.band), ceil_div(jobs, images * plan.groups))
    return ceil_div(plan.out_rows, bands)


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


def _forward_axes(kernel, pad, dilation, out_size):
    return [_forward_axis(*along) for along in zip(out_size, kernel, pad, dilation, strict=True)]


def _fits_planes(filters, terms, steps, lanes):
    """Whether vectors run over pixels: few filters leave lanes idle, few terms do not pay for transposing."""
    return steps == (1, 1) and (filters <= lanes or terms < FEW_TERMS)


def forward_plan(x_size, W_shape, groups, stride, pad, dilation, out_size, lanes):
    """(Plan, Tables) of a forward pass."""
    F, channels, KH, KW = W_shape
    axes = _forward_axes((KH, KW), pad, dilation, out_size)
    in_planes = _fits_planes(F // groups, channels * KH * KW, stride, lanes)
    strides = channels * KH * KW, KH * KW
    return _plan(
        x_size, out_size, groups, channels, F // groups, W_shape, strides, axes, stride, (1, 1), in_planes, lanes
    )


def backward_plan(dx_size, W_shape, groups, stride, pad, dilation, dout_size, lanes):
    """The same of the gradient for the input, where dout is the image and dx the output."""
    F, channels, KH, KW = W_shape
    axes = [_backward_axis(*along) for along in zip(dx_size, (KH, KW), stride, pad, dilation, strict=True)]
    in_planes = _fits_planes(channels, F // groups * KH * KW, (1, 1), lanes)
    strides = KH * KW, channels * KH * KW
    return _plan(
        dout_size, dx_size, groups, F // groups, channels, W_shape, strides, axes, (1, 1), stride, in_planes, lanes
    )


def _plan(
    image_size, out_size, groups, channels, filters, W_shape, W_strides, axes, steps, out_steps, in_planes, lanes
):
    W_filter, W_channel = W_strides
    (first_row, last_row), (first_column, last_column) = (_span(a, step) for a, step in zip(axes, steps, strict=True))
    out_rows, out_columns = (max(p.size for p in phases) for phases in axes)
    one_phase = out_steps == (1, 1)
    shifts, pitch = [first_column], last_column - first_column + 1
    taps = W_shape[2] * W_shape[3]
    if in_planes and one_phase and channels * taps < FEW_TERMS and filters * taps >= FEW_PRODUCTS:
        shifts, pitch = [axes[1][0].first + u * axes[1][0].tap_step for u in range(W_shape[3])], out_columns
    row_step, column_step = steps
    margin = last_row - first_row + 1 - out_rows * row_step  # rows that `band` rows of outputs see beyond band · step
    row_size = channels * len(shifts) * pitch
    fitting = COPY_BYTES // (row_size * VECTORS.bytes // lanes) - margin
    band = max(1, min(out_rows, fitting // row_step))
    copied_rows = band + margin if in_planes else min(image_size[0], band * row_step + margin)
    plane = 0
    if in_planes:  # an odd number of vectors, since places 4 KB apart displace each other from the cache
        plane = (ceil_div(copied_rows * pitch, lanes) | 1) * lanes
        # The last tile may read more, for sums that are not stored.
        copy_size = channels * len(shifts) * plane + PIXEL_VECTORS * lanes
        pixels = 0 if one_phase and pitch == out_columns else band * pitch
    else:
        copy_size = round_up(copied_rows * row_size, lanes)
        pixels = round_up(max(STRIPE_PIXELS, out_columns), lanes)  # whole rows of any phase
    phases, terms, places = [], [], []
    for rows, columns in itertools.product(*axes):
        at = rows.out * out_size[1] + columns.out
        row_terms = channels * len(columns.taps)
        phases.append(
            Phase(rows.size, columns.size, rows.first, len(rows.taps), rows.tap_step, row_terms, len(places), at)
        )
        offsets = []
        for (t, r), c, (u, s) in itertools.product(enumerate(rows.taps), range(channels), enumerate(columns.taps)):
            row, column = t * rows.tap_step, columns.first + u * columns.tap_step
            if not in_planes:
                offsets.append((row * channels + c) * pitch + column - first_column)
            elif len(shifts) > 1:
                offsets.append((c * len(shifts) + shifts.index(column)) * plane + row * pitch)
            else:
                offsets.append(c * plane + row * pitch + column - first_column)
            places.append(c * W_channel + r * W_shape[3] + s)
        terms.append(_terms_of_planes(offsets) if in_planes else _terms(offsets, lanes))
    plan = Plan(
        groups=groups, channels=channels, height=image_size[0], width=image_size[1],
        left=-first_column, pitch=pitch, row_step=row_step, column_step=column_step,
        first_row=first_row, last_row=last_row, filters=filters,
        W_group=W_shape[0] // groups * W_shape[1] * W_shape[2] * W_shape[3], W_filter=W_filter,
        out_rows=out_rows, out_columns=out_columns,
        out_plane=out_size[0] * out_size[1], out_row=out_size[1] * out_steps[0], out_column=out_steps[1],
        in_planes=int(in_planes), shifts=len(shifts), plane=plane, band=band, copied_rows=copied_rows,
        copy_size=copy_size, pixels=pixels, panels=ceil_div(filters, PIXEL_ROWS if in_planes else 2 * lanes),
    )  # fmt: skip
    tables = np.array(phases, PHASE), np.concatenate(terms, axis=1), *(np.array(t, np.int64) for t in (places, shifts))
    return plan, Tables(*tables)


def _terms(offsets, lanes):
    """Tables for tiles of one and of two vectors: places in the image, and rows of the other factor."""
    offsets = np.array(offsets, np.int64)
    rows = np.arange(len(offsets)) * lanes
    return np.stack([np.stack([offsets, width * rows], axis=1) for width in (1, 2)])


def _terms_of_planes(offsets):
    """A table for tiles with filters as rows: columns of PIXEL_ROWS weights, and places in the image."""
    offsets = np.array(offsets, np.int64)
    return np.stack([np.arange(len(offsets)) * PIXEL_ROWS, offsets], axis=1)[None]


class WeightsTables(NamedTuple):
    """What the loops of a gradient for weights look up."""

    terms: np.ndarray  # a stripe's pixels in the copied image; (tiles of one and of two vectors, pixels, two places)
    terms_of_bias: np.ndarray  # the same of one place
    places: np.ndarray  # of the sums of a filter in dW


def weights_plan(x_size, dW_shape, groups, stride, pad, dilation, out_size, lanes):
    """(Plan of the forward pass over filters, Taps, WeightsTables)"""
    F, channels, KH, KW = dW_shape
    axes, strides = _forward_axes((KH, KW), pad, dilation, out_size), (channels * KH * KW, KH * KW)
    plan, _ = _plan(
        x_size, out_size, groups, channels, F // groups, dW_shape, strides, axes, stride, (1, 1), False, lanes
    )
    sums = np.arange(channels * KH * KW).reshape(channels, KH, KW)
    (run, run_step), (runs, runs_step), order = (channels, plan.pitch), (KW, dilation[1]), (1, 2, 0)
    if channels < KW:
        (run, run_step), (runs, runs_step), order = (runs, runs_step), (run, run_step), (1, 0, 2)
    stripe = max(1, STRIPE_PIXELS // out_size[1])
    row = plan.row_step * channels * plan.pitch
    offsets = [y * row + x * plan.column_step for y in range(stripe) for x in range(out_size[1])]
    taps = Taps(KH, dilation[0], run, run_step, runs, runs_step, stripe)
    places = np.ascontiguousarray(sums.transpose(order)).ravel()
    return plan, taps, WeightsTables(_terms(offsets, lanes), _terms([0] * len(offsets), lanes), places)
