"""What the models' constructors share: the first values of their parameters, and the sizes of images on the way."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from .. import config
from .._device import to_gpu
from .parameters import Parameters

Shape = tuple[int, ...]


def initial_parameters(
    who: str, shapes: Mapping[str, Shape], stds: Mapping[str, float], dtype: DTypeLike | None, source: Any
) -> tuple[Parameters, Parameters]:
    """Parameters, and room for their gradients, each in one piece of memory.

    Those in `stds` are drawn from a normal distribution of that standard deviation, in its order; gammas are 1, all
    others 0. dtype: None is ``config.dtype``.
    """
    dtype = np.dtype(config.dtype if dtype is None else dtype)
    if dtype not in (np.float32, np.float64):
        raise ValueError(f"{who}: dtype must be float32 or float64, got {dtype}")
    params, grads = Parameters.allocate(shapes, dtype), Parameters.allocate(shapes, dtype)
    for name, std in stds.items():
        params[name] = std * source.standard_normal(shapes[name])
    for name in shapes:
        if name.startswith("gamma"):
            params[name] = 1
    return (params.moved(to_gpu), grads.moved(to_gpu)) if config.GPU else (params, grads)


def check_sizes(who: str, *sizes: int) -> None:
    if min(sizes) < 1:
        raise ValueError(f"{who}: sizes must be at least 1, got {', '.join(map(str, sizes))}")


def check_input_dim(who: str, input_dim: Shape) -> Shape:
    if len(input_dim) != 3 or min(input_dim) < 1:
        raise ValueError(f"{who}: input_dim must be (channels, height, width), got {input_dim}")
    return tuple(input_dim)


def convolved(who: str, shape: Shape, conv_param: Mapping[str, int]) -> tuple[Shape, Shape]:
    """The shapes of the filters, and of what they make of an image of `shape` (C, H, W)."""
    missing = {"filter_num", "filter_size", "pad", "stride"} - set(conv_param)
    if missing:
        raise ValueError(f"{who}: a conv_param must have filter_num, filter_size, pad and stride; no {min(missing)!r}")
    F, K, pad, stride = (conv_param[key] for key in ("filter_num", "filter_size", "pad", "stride"))
    C, H, W = shape
    if min(H, W) + 2 * pad < K:
        raise ValueError(f"{who}: images of {H} x {W}, padding of {pad} added, are smaller than filters of {K} x {K}")
    return (F, C, K, K), (F, (H + 2 * pad - K) // stride + 1, (W + 2 * pad - K) // stride + 1)


def halved(who: str, shape: Shape) -> Shape:
    """The shape of an image (C, H, W) after pooling 2 x 2."""
    C, H, W = shape
    if min(H, W) < 2:
        raise ValueError(f"{who}: images of {H} x {W} are too small for pooling 2 x 2")
    return C, H // 2, W // 2


def he(shape: Shape) -> float:
    """The standard deviation of He et al., arXiv:1502.01852, for weights (D, F) or filters (F, C, K, K) before relu."""
    return math.sqrt(2 / (shape[0] if len(shape) == 2 else math.prod(shape[1:])))
