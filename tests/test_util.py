import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.testing import assert_allclose, assert_array_equal

from fastnn.models import Parameters
from fastnn.util import clip_grads, remove_duplicate


@given(
    st.lists(
        hnp.arrays("float64", hnp.array_shapes(max_dims=2, max_side=4), elements=st.floats(-1e3, 1e3)), max_size=4
    ),
    st.floats(1e-3, 1e4),
)
def test_clipped_norm(grads, max_norm):
    before = [g.copy() for g in grads]
    norm = clip_grads(grads, max_norm)
    assert norm == pytest.approx(np.sqrt(sum(np.sum(g**2) for g in before)))
    after = np.sqrt(sum(np.sum(g**2) for g in grads))
    assert after <= max_norm * (1 + 1e-12)
    if norm + 1e-6 <= max_norm:
        for g, b in zip(grads, before, strict=True):
            assert_array_equal(g, b)
    else:
        for g, b in zip(grads, before, strict=True):  # the book's formula
            assert_allclose(g, b * (max_norm / (norm + 1e-6)))


def test_clips_mappings_in_place():
    g = np.array([3.0, 4.0], "float32")
    assert clip_grads({"W": g}, 1.0) == 5
    assert_allclose(g, [0.6, 0.8], rtol=1e-6)
    assert clip_grads(Parameters({"W": g}), 10.0) == pytest.approx(1)


def test_norm_does_not_overflow_in_float32():
    assert clip_grads([np.array([1e30], "float32")], 1.0) == pytest.approx(1e30)


def test_clip_needs_a_positive_norm():
    with pytest.raises(ValueError, match="clip_grads: max_norm must be positive, got 0"):
        clip_grads([], 0)


def test_shared_weight_is_kept_once_with_the_sum_of_gradients():
    W, V = np.zeros((2, 3)), np.ones((2, 3))
    g = [np.full((2, 3), 1.0), np.full((2, 3), 10.0), np.full((2, 3), 100.0)]
    params, grads = remove_duplicate([W, V, W], g)
    assert [id(p) for p in params] == [id(W), id(V)]
    assert grads[0] is g[0]
    assert_array_equal(grads[0], np.full((2, 3), 101.0))
    assert_array_equal(grads[1], np.full((2, 3), 10.0))


@pytest.mark.parametrize("shape", [(2, 3), (3, 3)])
def test_transposed_weight(shape):
    W = np.zeros(shape)
    gradient, transposed = (
        np.arange(W.size, dtype=float).reshape(shape),
        np.arange(W.size, dtype=float).reshape(shape[::-1]),
    )
    want = gradient + transposed.T
    params, grads = remove_duplicate([W, W.T], [gradient, transposed])
    assert len(params) == 1
    assert_array_equal(grads[0], want)


def test_equal_but_separate_weights_are_not_shared():
    params, grads = remove_duplicate([np.zeros((3, 3)), np.zeros((3, 3))], [np.ones((3, 3)), np.ones((3, 3))])
    assert len(params) == 2
    assert_array_equal(grads[0], np.ones((3, 3)))


def test_parts_of_one_memory_are_not_shared():
    arena = np.zeros(10)
    params, _ = remove_duplicate([arena[:4], arena[:2], arena[4:8]], [np.ones(4), np.ones(2), np.ones(4)])
    assert len(params) == 3


def test_the_lists_given_stay():
    W = np.zeros(2)
    params, grads = [W, W], [np.ones(2), np.ones(2)]
    remove_duplicate(params, grads)
    assert len(params) == len(grads) == 2
