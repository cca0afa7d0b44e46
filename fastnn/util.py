"""The book's helpers: for lists of parameters and gradients (book 2), for images as matrices (book 1)."""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from ._device import Array, address, to_cpu, to_gpu

__all__ = ["clip_grads", "col2im", "im2col", "remove_duplicate", "to_cpu", "to_gpu"]


def clip_grads(grads: Sequence[Array] | Mapping[str, Array], max_norm: float) -> float:
    """Scale all gradients, in place, so that their joint Euclidean norm is at most `max_norm`.

    Book 2, section 6.1.4.

    Returns
    -------
    float
        The norm before.

    Examples
    --------
    >>> import numpy as np
    >>> from fastnn.util import clip_grads
    >>> grads = [np.array([3.0]), np.array([4.0])]
    >>> clip_grads(grads, 1.0)
    5.0
    >>> [float(g[0].round(6)) for g in grads]
    [0.6, 0.8]
    """
    if not max_norm > 0:
        raise ValueError(f"clip_grads: max_norm must be positive, got {max_norm}")
    arrays: Iterable[Array] = grads.values() if isinstance(grads, Mapping) else grads
    arrays = list(arrays)
    norm = math.sqrt(math.fsum(float((g.astype(np.float64) ** 2).sum()) for g in arrays))
    rate = max_norm / (norm + 1e-6)
    if rate < 1:
        for g in arrays:
            g *= rate
    return norm


def remove_duplicate(params: Sequence[Array], grads: Sequence[Array]) -> tuple[list[Array], list[Array]]:
    """Parameters without repetition, and their gradients: those of a shared weight are added up.

    Shared is an array that occurs twice, or once as it is and once transposed (``W`` and ``W.T``): the same memory.
    Book 2, ``common/trainer.py``.

    Returns
    -------
    params, grads : list of ndarray
        The arrays themselves; a shared weight's first gradient array holds the sum.

    Examples
    --------
    >>> import numpy as np
    >>> from fastnn.util import remove_duplicate
    >>> W = np.zeros((2, 3))
    >>> params, grads = remove_duplicate([W, W.T], [np.ones((2, 3)), np.ones((3, 2))])
    >>> len(params), float(grads[0][0, 0])
    (1, 2.0)
    """
    seen: dict[tuple[Any, ...], tuple[int, tuple[int, ...]]] = {}
    kept_params: list[Array] = []
    kept_grads: list[Array] = []
    for p, g in zip(params, grads, strict=True):
        # The same memory read along the same steps, in whatever order of axes.
        key = (address(p), p.dtype, *sorted(zip(p.strides, p.shape, strict=True)))
        if key not in seen:
            seen[key] = len(kept_params), p.strides
            kept_params.append(p)
            kept_grads.append(g)
        else:
            first, strides = seen[key]
            kept_grads[first] += g if p.strides == strides else g.T
    return kept_params, kept_grads


def im2col(input_data: Array, filter_h: int, filter_w: int, stride: int = 1, pad: int = 0) -> Array:
    """Images as a matrix with which convolution is a product; book 1, section 7.4.3.

    To study: `fastnn.layers.Convolution` computes without this matrix, which holds each pixel many times.

    Parameters
    ----------
    input_data : ndarray
        (N, C, H, W).
    filter_h, filter_w, stride, pad : int

    Returns
    -------
    ndarray
        (N·OH·OW, C·filter_h·filter_w): a row is what lies under the filter at one place.

    Examples
    --------
    >>> import numpy as np
    >>> from fastnn.util import im2col
    >>> im2col(np.arange(9).reshape(1, 1, 3, 3), 2, 2)
    array([[0, 1, 3, 4],
           [1, 2, 4, 5],
           [3, 4, 6, 7],
           [4, 5, 7, 8]])
    """
    x = np.pad(input_data, ((0, 0), (0, 0), (pad, pad), (pad, pad)))
    windows = np.lib.stride_tricks.sliding_window_view(x, (filter_h, filter_w), axis=(2, 3))
    windows = windows[:, :, ::stride, ::stride]  # (N, C, OH, OW, filter_h, filter_w)
    return windows.transpose(0, 2, 3, 1, 4, 5).reshape(-1, x.shape[1] * filter_h * filter_w)


def col2im(
    col: Array, input_shape: tuple[int, int, int, int], filter_h: int, filter_w: int, stride: int = 1, pad: int = 0
) -> Array:
    """Add up a matrix like that of `im2col` into images: each pixel is the sum of all its places in the matrix.

    The gradient of `im2col`; book 1, section 7.4.4 (``common/util.py``).

    Parameters
    ----------
    col : ndarray
        (N·OH·OW, C·filter_h·filter_w).
    input_shape : tuple of int
        (N, C, H, W).
    filter_h, filter_w, stride, pad : int

    Returns
    -------
    ndarray
        (N, C, H, W).

    Examples
    --------
    >>> import numpy as np
    >>> from fastnn.util import col2im
    >>> col2im(np.ones((4, 4)), (1, 1, 3, 3), 2, 2)
    array([[[[1., 2., 1.],
             [2., 4., 2.],
             [1., 2., 1.]]]])
    """
    N, C, H, W = input_shape
    OH, OW = (H + 2 * pad - filter_h) // stride + 1, (W + 2 * pad - filter_w) // stride + 1
    windows = col.reshape(N, OH, OW, C, filter_h, filter_w).transpose(0, 3, 4, 5, 1, 2)
    x = np.zeros((N, C, H + 2 * pad, W + 2 * pad), col.dtype)
    for r in range(filter_h):
        for s in range(filter_w):
            x[:, :, r : r + stride * OH : stride, s : s + stride * OW : stride] += windows[:, :, r, s]
    return x[:, :, pad : pad + H, pad : pad + W]
