from types import SimpleNamespace
from typing import NamedTuple
from unittest import mock

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from numpy.testing import assert_array_equal

from fastnn.kernels import cpu, ref
from fastnn.kernels.cpu import _image_plan, convolution
from fastnn.kernels.cpu._simd import VECTORS
from fastnn.util import col2im, im2col


class Geometry(NamedTuple):
    """Of one convolution: `size` is that of the image; `filters` and `channels` are those of a group."""

    N: int = 2
    channels: int = 3
    filters: int = 4
    size: tuple = (6, 7)
    kernel: tuple = (3, 3)
    stride: tuple = (1, 1)
    pad: tuple = (0, 0)
    dilation: tuple = (1, 1)
    groups: int = 1

    @property
    def out_size(self):
        return tuple((n + 2 * p - d * (k - 1) - 1) // s + 1 for n, k, s, p, d in zip(*self[3:8], strict=True))

    @property
    def options(self):
        return self.stride, self.pad, self.dilation

    def arrays(self, dtype, seed=0):
        """x, W, b, dout"""
        rng = np.random.default_rng(seed)
        channels, filters = self.groups * self.channels, self.groups * self.filters
        shapes = (self.N, channels, *self.size), (filters, self.channels, *self.kernel), (filters,)
        shapes += ((self.N, filters, *self.out_size),)
        return [rng.standard_normal(shape).astype(dtype) for shape in shapes]


OUTPUTS = ["out", "relu", "dx", "dW", "db"]
GUARD = 12345.0  # before and after every output


def run(k, geometry, x, W, b, dout):
    """All kernels of a room; outputs by name."""
    memory = {
        name: np.full(a.size + 64, GUARD, a.dtype) for name, a in zip(OUTPUTS, (dout, dout, x, W, b), strict=True)
    }
    out, relu, dx, dW, db = outputs = [m[32:-32] for m in memory.values()]
    for output, like in zip(outputs, (dout, dout, x, W, b), strict=True):
        output[...] = np.nan
        output.shape = like.shape
    k.convolution_forward(x, W, b, *geometry.options, out)
    k.convolution_relu_forward(x, W, b, *geometry.options, relu)
    k.convolution_backward_input(dout, W, *geometry.options, dx)
    k.convolution_backward_params(x, dout, *geometry.options, dW, db)
    for name, m in memory.items():
        assert np.all(m[:32] == GUARD) and np.all(m[-32:] == GUARD), f"wrote outside of {name}"
    return dict(zip(OUTPUTS, outputs, strict=True))


def winograd_size(x, W, b, pad):
    """What the terms of Winograd's sums amount to; of arrays without negative elements."""
    G = np.array([[1, 0, 0], [0.5, 0.5, 0.5], [0.5, 0.5, 0.5], [0, 0, 1]])
    B = np.array([[1, 0, 0, 0], [0, 1, 1, 1], [1, 1, 1, 0], [0, 0, 0, 1]])
    A = np.array([[1, 0], [1, 1], [1, 1], [0, 1]])
    size = [n + 2 * p - 2 for n, p in zip(x.shape[2:], pad, strict=True)]
    tiles = [(n + 1) // 2 for n in size]
    # From -pad on; the 8 are for those below 0.
    padded = np.pad(x, [(0, 0), (0, 0), *((8 + p, 9 + p) for p in pad)])[:, :, 8:, 8:]
    d = np.lib.stride_tricks.sliding_window_view(padded, (4, 4), (2, 3))
    d = d[:, :, : 2 * tiles[0] : 2, : 2 * tiles[1] : 2]
    m = np.einsum("ncijrs,fcrs->nfijrs", B.T @ d @ B, G @ W @ G.T)
    out = (A.T @ m @ A).swapaxes(3, 4).reshape(len(x), len(W), *(2 * n for n in tiles))
    return out[:, :, : size[0], : size[1]] + b[:, None, None]


def check(k, geometry, dtype, seed=0):
    arrays = geometry.arrays(dtype, seed)
    before = [a.copy() for a in arrays]
    got = run(k, geometry, *arrays)
    want = run(ref, geometry, *(a.astype("float64") for a in arrays))
    # What the terms of each sum amount to: the bound of Higham, Accuracy and Stability, section 3.5.
    size = run(ref, geometry, *(np.abs(a.astype("float64")) for a in arrays))
    outputs, taps = geometry.N * np.prod(geometry.out_size), np.prod(geometry.kernel)
    depths = {"out": geometry.channels * taps, "dx": geometry.filters * taps, "dW": outputs, "db": outputs}
    W_shape = arrays[1].shape
    if k is cpu and convolution.suits(W_shape, geometry.groups, geometry.stride, geometry.dilation):
        x, W, b, dout = (np.abs(a.astype("float64")) for a in arrays)
        if convolution.pays(geometry.N, W_shape, geometry.out_size):
            size["out"] = size["relu"] = winograd_size(x, W, b, geometry.pad)
            depths["out"] = geometry.channels + 4
        if convolution.pays(geometry.N, W_shape, geometry.size):
            beside = [2 - p for p in geometry.pad]
            size["dx"] = winograd_size(dout, W.swapaxes(0, 1)[:, :, ::-1, ::-1], np.zeros(W_shape[1]), beside)
            depths["dx"] = geometry.filters + 4
    for name in got:
        depth = depths.get(name, depths["out"])
        bound = (depth + 8) * np.finfo(dtype).eps * size[name]
        assert np.all(np.abs(got[name] - want[name]) <= bound), name
    for array, kept in zip(arrays, before, strict=True):
        assert_array_equal(array, kept)


@st.composite
def geometries(draw):
    def pair(elements):
        return draw(st.tuples(elements, elements))

    kernel, dilation = pair(st.integers(1, 5)), pair(st.integers(1, 3))
    pad, stride = pair(st.integers(0, 6)), pair(st.integers(1, 4))
    fitting = (max(1, d * (k - 1) + 1 - 2 * p) for k, d, p in zip(kernel, dilation, pad, strict=True))
    size = tuple(n + draw(st.integers(0, 20)) for n in fitting)
    groups = draw(st.sampled_from([1, 1, 1, 2, 3]))
    few, many = st.integers(1, 5), st.integers(1, 40)
    channels, filters = draw(few | many), draw(few | many)
    return Geometry(draw(st.integers(1, 3)), channels, filters, size, kernel, stride, pad, dilation, groups)


@settings(deadline=None, max_examples=150)
@given(geometry=geometries(), dtype=st.sampled_from(["float32", "float64"]), seed=st.integers(0, 2**32 - 1))
@example(Geometry(3, 1, 30, (28, 28), (5, 5)), "float32", 0)
@example(Geometry(3, 16, 16, (28, 28), pad=(1, 1)), "float32", 0)
@example(Geometry(2, 3, 13, (9, 11), (4, 4), pad=(2, 2)), "float32", 0)  # in planes: a copy for each column of taps
@example(Geometry(2, 3, 3, (9, 11), (4, 4), pad=(2, 2)), "float32", 0)  # one for all
@example(Geometry(2, 33, 65, (14, 14), pad=(1, 1)), "float64", 0)
@example(Geometry(3, 40, 33, (18, 17), pad=(1, 2)), "float32", 0)  # enough for Winograd's algorithm
@example(Geometry(2, 8, 70, (15, 15), stride=(2, 2), pad=(1, 1)), "float32", 0)
@example(Geometry(1, 40, 20, (13, 85), stride=(2, 2), pad=(1, 1)), "float32", 0)  # dx: phases of 43 and 42 columns
@example(Geometry(2, 3, 2, (1, 1), (5, 5), pad=(4, 7)), "float32", 0)
@example(Geometry(2, 3, 2, (9, 9), (1, 1), stride=(4, 4)), "float32", 0)
def test_matches_reference(k, geometry, dtype, seed):
    check(k, geometry, dtype, seed)


def by_winograd(wanted=True):
    """Have Winograd's algorithm chosen wherever it is possible, or nowhere."""
    return mock.patch.object(convolution, "pays", lambda *_: wanted)


@st.composite
def geometries_for_winograd(draw):
    pad = draw(st.tuples(st.integers(0, 4), st.integers(0, 4)))
    size = tuple(max(1, 3 - 2 * p) + draw(st.integers(0, 20)) for p in pad)
    images, channels, filters = (draw(st.integers(1, most)) for most in (9, 40, 40))
    return Geometry(images, channels, filters, size, pad=pad)


@settings(deadline=None, max_examples=50)
@given(
    geometry=geometries_for_winograd(), dtype=st.sampled_from(["float32", "float64"]), seed=st.integers(0, 2**32 - 1)
)
@example(Geometry(2, 40, 33, (56, 56), pad=(1, 1)), "float32", 0)  # several blocks an image
@example(Geometry(9, 64, 10, (14, 14), pad=(1, 1)), "float32", 0)  # and across images
@example(Geometry(2, 300, 20, (6, 70), pad=(0, 2)), "float64", 0)  # one row of tiles a block
@example(Geometry(3, 2, 3, (1, 1), pad=(1, 4)), "float32", 0)
def test_winograd_matches_reference(geometry, dtype, seed):
    with by_winograd():
        check(cpu, geometry, dtype, seed)


def test_winograd_is_chosen_where_it_pays():
    """Many tiles of many channels: the results are rounded in another way."""
    geometry = Geometry(8, 64, 32, (14, 14), pad=(1, 1))
    x, W, b, dout = geometry.arrays("float32")
    chosen = run(cpu, geometry, x, W, b, dout)
    few = run(cpu, geometry._replace(N=2), x[:2], W, b, dout[:2])
    with by_winograd():
        winograd = run(cpu, geometry, x, W, b, dout)
    with by_winograd(False):
        direct = run(cpu, geometry, x, W, b, dout)
    for name in ("out", "relu", "dx"):
        assert_array_equal(chosen[name], winograd[name])
        assert_array_equal(few[name], direct[name][:2])
        assert np.any(winograd[name] != direct[name])
    assert convolution.pays(1, W.shape, (224, 224))
    assert not convolution.pays(1, W.shape, (1024, 1024))  # rows of tiles of 2 MB


AFFECTED = {"x": ["out", "relu"], "W": ["out", "relu", "dx"], "b": ["out", "relu"], "dout": ["dx"]}


def check_as_without_winograd(geometry, arrays, names):
    results = []
    for wanted in (True, False):
        with by_winograd(wanted), np.errstate(invalid="ignore"):
            results.append(run(cpu, geometry, *arrays))
    for name in names:
        assert_array_equal(*(result[name] for result in results), err_msg=name)


@pytest.mark.parametrize("poison", [np.nan, np.inf])
@pytest.mark.parametrize("poisoned", AFFECTED)
def test_winograd_spreads_neither_nan_nor_infinity(poisoned, poison):
    geometry = Geometry(2, 3, 5, (9, 8), pad=(1, 1))
    arrays = geometry.arrays("float32")
    array = arrays[list(AFFECTED).index(poisoned)]
    array = array[-1, -1] if array.ndim > 1 else array
    for place in np.ndindex(array.shape):
        kept = array[place]
        array[place] = poison
        check_as_without_winograd(geometry, arrays, AFFECTED[poisoned])
        array[place] = kept


@pytest.mark.parametrize("large", ["x", "W", "dout"])
def test_what_overflows_in_winograds_transforms_alone(large):
    geometry = Geometry(2, 3, 5, (9, 8), pad=(1, 1))
    arrays = [a / 64 for a in geometry.arrays("float32")]
    arrays[list(AFFECTED).index(large)][...] = 3e38
    check_as_without_winograd(geometry, arrays, AFFECTED[large])
    got = run(cpu, geometry, *arrays)
    assert all(np.isfinite(got[name]).all() for name in AFFECTED[large])


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("pad", [0, 1, 4])
def test_reference_agrees_with_the_books_im2col(stride, pad):
    geometry = Geometry(stride=(stride, stride), pad=(pad, pad))
    x, W, b, dout = geometry.arrays("float64")
    got = run(ref, geometry, x, W, b, dout)
    col, col_W = im2col(x, 3, 3, stride, pad), W.reshape(len(W), -1).T
    rows = dout.transpose(0, 2, 3, 1).reshape(-1, len(W))
    out = (col @ col_W + b).reshape(*got["out"].transpose(0, 2, 3, 1).shape).transpose(0, 3, 1, 2)
    np.testing.assert_allclose(got["out"], out, atol=1e-13)
    np.testing.assert_allclose(got["relu"], np.maximum(out, 0), atol=1e-13)
    np.testing.assert_allclose(got["dx"], col2im(rows @ col_W.T, x.shape, 3, 3, stride, pad), atol=1e-13)
    np.testing.assert_allclose(got["dW"], (col.T @ rows).T.reshape(W.shape), atol=1e-13)
    np.testing.assert_allclose(got["db"], rows.sum(0), atol=1e-13)


def test_reference_agrees_with_the_definition_where_it_has_groups_and_dilation():
    geometry = Geometry(1, 2, 2, (7, 6), (2, 3), (2, 1), (1, 0), (2, 2), groups=3)
    x, W, b, dout = geometry.arrays("float64")
    got = run(ref, geometry, x, W, b, dout)
    padded = np.zeros((6, 9, 6))
    padded[:, 1:-1] = x[0]
    out, dx, dW = np.zeros_like(dout), np.zeros_like(padded), np.zeros_like(W)
    for f, i, j in np.ndindex(*out.shape[1:]):
        out[0, f, i, j] = b[f]
        for c, r, s in np.ndindex(*W.shape[1:]):
            at = f // 2 * 2 + c, 2 * i + 2 * r, j + 2 * s
            out[0, f, i, j] += padded[at] * W[f, c, r, s]
            dx[at] += dout[0, f, i, j] * W[f, c, r, s]
            dW[f, c, r, s] += dout[0, f, i, j] * padded[at]
    for name, want in {"out": out, "dx": dx[None, :, 1:-1], "dW": dW, "db": dout.sum((0, 2, 3))}.items():
        np.testing.assert_allclose(got[name], want, atol=1e-13, err_msg=name)


@pytest.mark.parametrize("poison", [np.nan, np.inf, -np.inf])
def test_nan_and_infinity_come_out_where_they_went_in(k, poison):
    geometry = Geometry(2, 3, 20, (9, 20), pad=(1, 1))
    arrays = geometry.arrays("float32")
    arrays[0][0, 1, 4, 10] = arrays[3][1, 2, 3, 5] = poison
    with np.errstate(invalid="ignore"):
        got, want = (run(room, geometry, *arrays) for room in (k, ref))
    for name in got:
        assert_array_equal(np.isnan(got[name]), np.isnan(want[name]), err_msg=name)
        assert_array_equal(np.isinf(got[name]), np.isinf(want[name]), err_msg=name)


@pytest.mark.parametrize("geometry", [
    Geometry(5, 3, 5, (9, 9), pad=(1, 1)),
    Geometry(3, 20, 40, (9, 17), pad=(1, 1), stride=(2, 1)),
    Geometry(1, 40, 20, (40, 33), groups=2),
    Geometry(1, 3, 20, (17, 9), stride=(2, 2)),
    Geometry(1, 3, 40, (4, 5), pad=(6, 1)),  # some threads see nothing but padding
], ids=str)  # fmt: skip
@pytest.mark.parametrize("winograd", [False, True])
def test_the_same_for_any_number_of_threads(geometry, winograd, monkeypatch):
    arrays = geometry.arrays("float32")
    results = []
    monkeypatch.setattr(convolution, "pays", lambda *_: winograd)
    for threads in (1, 2, 3, 7):
        monkeypatch.setattr(convolution, "PARALLEL_ABOVE", 0)
        monkeypatch.setattr(convolution, "limit", SimpleNamespace(threads=threads))
        results.append(run(cpu, geometry, *arrays))
    for other in results[1:]:
        for name in OUTPUTS:
            assert_array_equal(other[name], results[0][name], err_msg=name)


@pytest.mark.parametrize("pad", [(0, 0), (1, 1)], ids=str)
def test_copies_of_parts_of_large_images(k, pad):
    """Rows that do not fit the cache at once."""
    check(k, Geometry(1, 70, 17, (60, 40), pad=pad, stride=(2, 1)), "float64")
    check(k, Geometry(1, 17, 70, (60, 40), pad=pad), "float64")
    check(k, Geometry(1, 70, 5, (60, 40), pad=pad), "float64")
    check(k, Geometry(1, 3, 170, (60, 40), pad=pad, stride=(1, 2)), "float64")


@pytest.mark.parametrize("shape", [(65, 32, 64, 64), (180, 32, 39, 39)], ids=str)
@pytest.mark.parametrize("winograd", [False, True])
def test_outputs_written_past_the_caches(shape, winograd, monkeypatch):
    """Whole vectors of aligned outputs of more than 32 MB; what does not begin with a cache line is not written so."""
    monkeypatch.setattr(convolution, "pays", lambda *_: winograd)
    rng = np.random.default_rng(0)
    N, F, H, W = shape
    x, W = rng.standard_normal((N, 8, H, W), "float32"), rng.standard_normal((F, 8, 3, 3), "float32")
    b, size = np.zeros(F, "float32"), N * F * H * H
    memory = np.full(size + 32, GUARD, "float32")
    skipped = -memory.ctypes.data % 64 // 4
    aligned, shifted = (memory[at : at + size].reshape(shape) for at in (skipped, skipped + 4))
    cpu.convolution_forward(x, W, b, (1, 1), (1, 1), (1, 1), shifted)
    want = shifted.copy()
    memory[:] = GUARD
    cpu.convolution_forward(x, W, b, (1, 1), (1, 1), (1, 1), aligned)
    assert_array_equal(aligned, want)
    assert np.all(memory[:skipped] == GUARD) and np.all(memory[skipped + size :] == GUARD)


@pytest.mark.parametrize("geometry", [
    Geometry(1, 1, 30, (28, 28), (5, 5)),
    Geometry(1, 16, 16, (28, 28), pad=(1, 1)),
    Geometry(1, 64, 64, (56, 56), pad=(1, 1)),
    Geometry(1, 32, 64, (28, 28), stride=(2, 2), pad=(1, 1)),
    Geometry(1, 512, 512, (56, 56), pad=(1, 1)),
], ids=str)  # fmt: skip
def test_scratch_memory_of_a_thread(geometry):
    """At most one padded image, or where sums are short one for each column of taps, and never more than 512 KB."""
    lanes = VECTORS.bytes // 4
    W_shape = geometry.groups * geometry.filters, geometry.channels, *geometry.kernel
    common = geometry.groups, *geometry.options, geometry.out_size, lanes
    for make in (_image_plan.forward_plan, _image_plan.backward_plan, _image_plan.weights_plan):
        plan = make(geometry.size, W_shape, *common)[0]
        rows = max(geometry.size[0] + 2 * geometry.pad[0], plan.height + 2 * (geometry.kernel[0] - 1))
        columns = max(geometry.size[1] + 2 * geometry.pad[1], plan.width + 2 * (geometry.kernel[1] - 1))
        to_vectors = 4 * lanes * (1 + plan.channels * plan.shifts)
        assert plan.copy_size <= plan.shifts * plan.channels * rows * columns + to_vectors
        assert 4 * plan.copy_size <= _image_plan.COPY_BYTES + 4 * to_vectors
        assert plan.shifts == 1 or plan.channels * np.prod(geometry.kernel) < _image_plan.FEW_TERMS
