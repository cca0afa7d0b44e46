"""``fastnn.from_torch`` and ``fastnn.to_torch``: PyTorch's Sequential modules as networks, and back."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np

from ._arrays import Array
from ._device import to_cpu
from .layers import (
    Affine,
    AveragePooling,
    BatchNormalization,
    Convolution,
    Dropout,
    Flatten,
    Gelu,
    LeakyRelu,
    LogSoftmax,
    MatMul,
    Pooling,
    Relu,
    Sigmoid,
    Silu,
    Softmax,
    SoftmaxWithLoss,
    Softplus,
    Tanh,
)
from .layers.layer import Layer
from .models import Network

_OF_IMAGES = (Convolution, Pooling, AveragePooling)
_TO_ROWS = (Affine, MatMul, Flatten)
_TAKES_IMAGES = {*_OF_IMAGES, Flatten, "Conv2d", "MaxPool2d", "AvgPool2d", "BatchNorm2d", "Flatten"}
_TAKES_ROWS = {Affine, MatMul, "Linear", "BatchNorm1d"}


def from_torch(module: Any, loss_layer: Layer | None = None) -> Network:
    """A network that computes what a ``torch.nn.Sequential`` does, with copies of its weights.

    Linear, Conv2d, MaxPool2d, AvgPool2d, BatchNorm1d, BatchNorm2d, Dropout, Flatten, Identity, ReLU, LeakyReLU,
    Sigmoid, Tanh, Softplus, GELU, SiLU, Softmax, LogSoftmax, and Sequential within. Weights are in float32, or float64
    where they were.

    Parameters
    ----------
    module : torch.nn.Sequential
        Stays as it is.
    loss_layer : Layer, optional
        To train with: by default `SoftmaxWithLoss`, PyTorch's ``CrossEntropyLoss``.

    Returns
    -------
    Network
        Its layers have the module's names. Predictions are those of ``module.eval()`` to rounding. Training differs in
        two things: a Conv2d without bias has one here, at first 0; and running variances are averages of the biased
        variances of batches, as in the book, where PyTorch takes the unbiased ones.

    Raises
    ------
    ImportError
        Without PyTorch.
    TypeError, ValueError
        For a module that has no counterpart here, or settings that its counterpart has not; the message names it.

    Examples
    --------
    >>> import numpy as np, torch, fastnn
    >>> module = torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.ReLU(), torch.nn.Linear(3, 2))
    >>> net = fastnn.from_torch(module)
    >>> x = np.ones((5, 4), "float32")
    >>> np.allclose(net.predict(x), module(torch.from_numpy(x)).detach(), atol=1e-6)
    True
    """
    from torch import nn

    layers: dict[str, Layer] = {}
    used: set[int] = set()
    leaves = list(_leaves(module, "", nn))
    images = _begins_with_images(type(m).__name__ for _, m in leaves)
    for name, m in leaves:
        kind = type(m).__name__
        where = f"from_torch: {name} ({kind})"
        if type(m) is nn.Identity:
            continue
        if kind not in _FROM_TORCH or getattr(nn, kind, None) is not type(m):
            raise TypeError(f"{where} has no counterpart among the layers of fastnn")
        weights = {id(p) for p in m.parameters()}
        if used & weights:
            raise ValueError(f"{where} shares its weights with another module; layers would train apart")
        used |= weights
        try:
            layer = _FROM_TORCH[kind](m)
        except ValueError as error:
            raise ValueError(f"{where}: {error}") from None
        if images and (isinstance(layer, MatMul) or getattr(m, "dim", None) == 1):
            raise ValueError(f"{where} must come after a Flatten, where images come in")
        images = isinstance(layer, _OF_IMAGES) or kind == "BatchNorm2d" or (images and not isinstance(layer, _TO_ROWS))
        layers[name if name not in layers else f"{name}_{len(layers)}"] = layer
    return Network(layers, loss_layer or SoftmaxWithLoss())


def to_torch(model: Any) -> Any:
    """A ``torch.nn.Sequential`` that computes what a network does, with copies of its weights.

    All layers that `from_torch` makes, and those of `fastnn.models`. The loss layer is left out, and a Flatten put in
    where images come to an Affine layer.

    Parameters
    ----------
    model : Network
        Or whatever has such ``layers``, in a mapping or a list. Stays as it is.

    Returns
    -------
    torch.nn.Sequential
        In training mode, as new modules are: ``.eval()`` it to predict. Where dropout is the book's, which scales in
        prediction and not in training, the weights after it, or else before it, take the factor: PyTorch's then trains
        and predicts the same.

    Raises
    ------
    ImportError
        Without PyTorch.
    TypeError, ValueError
        For a layer that has no counterpart there.

    Examples
    --------
    >>> import numpy as np, torch, fastnn
    >>> net = fastnn.models.TwoLayerNet(4, 3, 2, activation="relu", rng=0)
    >>> module = fastnn.to_torch(net)
    >>> module
    Sequential(
      (Affine1): Linear(in_features=4, out_features=3, bias=True)
      (Relu1): ReLU()
      (Affine2): Linear(in_features=3, out_features=2, bias=True)
    )
    >>> x = np.ones((5, 4), "float32")
    >>> np.allclose(net.predict(x), module(torch.from_numpy(x)).detach(), atol=1e-6)
    True
    """
    from torch import nn

    layers = model.layers
    named = list(layers.items()) if hasattr(layers, "items") else [(str(i), a) for i, a in enumerate(layers)]
    kinds = [type(layer) for _, layer in named]
    images = _begins_with_images(kinds)
    sequential = nn.Sequential()
    factor = 1.0  # what the outputs so far are to be multiplied by: dropout's
    carrier: Any = None  # the module with weights before, from which on factors pass through
    for (name, layer), kind in zip(named, kinds, strict=True):
        where = f"to_torch: {name} ({kind.__name__})"
        if images and kind in (Affine, MatMul):
            sequential.add_module(f"flatten_{name}", nn.Flatten())
        images = images and kind not in _TO_ROWS
        if kind is BatchNormalization:
            module = _to_batch_norm(layer, nn.BatchNorm2d if images else nn.BatchNorm1d)
        elif kind in _TO_TORCH:
            module = _TO_TORCH[kind](layer, nn)
        else:
            raise TypeError(f"{where} has no counterpart among the modules of PyTorch")
        sequential.add_module(name, module)
        if kind in (Affine, MatMul, Convolution):
            module.weight.data *= factor
            factor, carrier = 1.0, module
        elif kind not in _HOMOGENEOUS:
            factor, carrier = _give_back(factor, carrier, where), None
        if kind is Dropout and not layer.inverted:
            factor *= 1 - layer.dropout_ratio
    _give_back(factor, carrier, "to_torch: the last layer")
    return sequential


def _begins_with_images(kinds: Iterable[Any]) -> bool:
    """Whether images come in, which the first layer tells that does not take both images and rows."""
    return next((kind in _TAKES_IMAGES for kind in kinds if kind in _TAKES_IMAGES | _TAKES_ROWS), False)


def _leaves(module: Any, prefix: str, nn: Any) -> Iterator[tuple[str, Any]]:
    """The modules within Sequential ones, in order, and their names: "0", or "block_0" of one within."""
    if not isinstance(module, nn.Sequential) or type(module).forward is not nn.Sequential.forward:
        if not prefix:
            raise TypeError(f"from_torch: module must be a torch.nn.Sequential, got {type(module).__name__}")
        yield prefix, module
        return
    for name, m in module._modules.items():  # named_children leaves out what comes twice
        yield from _leaves(m, f"{prefix}_{name}" if prefix else name, nn)


def _give_back(factor: float, carrier: Any, where: str) -> float:
    """Have the weights before take the factor of dropout, as those after it cannot."""
    if factor != 1:
        if carrier is None:
            raise ValueError(f"{where} comes after a Dropout whose scaling no weights can take; make it inverted=True")
        for p in carrier.parameters():
            p.data *= factor
    return 1.0


# From PyTorch. A ValueError says what setting a layer has not.


def _array(p: Any) -> Array:
    """A copy."""
    import torch

    dtype = torch.float64 if p.dtype is torch.float64 else torch.float32
    return p.detach().to("cpu", dtype).numpy().copy()


def _check(m: Any, **wanted: Any) -> None:
    for name, value in wanted.items():
        if getattr(m, name) != value:
            raise ValueError(f"{name} must be {value!r}, got {getattr(m, name)!r}")


def _one(m: Any, name: str) -> int:
    """A setting that has one value for both axes."""
    value = getattr(m, name)
    if not isinstance(value, int):
        if value[0] != value[1]:
            raise ValueError(f"{name} must be the same along both axes, got {value!r}")
        value = value[0]
    return int(value)


def _linear(m: Any) -> Layer:
    W = _array(m.weight.T)
    return MatMul(W) if m.bias is None else Affine(W, _array(m.bias))


def _convolution(m: Any) -> Layer:
    _check(m, padding_mode="zeros")
    pad = 0 if m.padding == "valid" else m.padding
    if pad == "same":
        total = [d * (k - 1) for d, k in zip(m.dilation, m.kernel_size, strict=True)]
        if any(n % 2 for n in total):
            raise ValueError(f"padding must be as much on both sides, got 'same' with kernel_size {m.kernel_size}")
        pad = tuple(n // 2 for n in total)
    W = _array(m.weight)
    b = np.zeros(len(W), W.dtype) if m.bias is None else _array(m.bias)
    return Convolution(W, b, m.stride, pad, m.dilation, m.groups)


def _pooling(m: Any, kind: type[Pooling] | type[AveragePooling]) -> Layer:
    _check(m, ceil_mode=False)
    height, width = (m.kernel_size,) * 2 if isinstance(m.kernel_size, int) else m.kernel_size
    return kind(height, width, _one(m, "stride"), _one(m, "padding"))


def _max_pooling(m: Any) -> Layer:
    _check(m, return_indices=False)
    if _one(m, "dilation") != 1:
        raise ValueError(f"dilation must be 1, got {m.dilation!r}")
    return _pooling(m, Pooling)


def _average_pooling(m: Any) -> Layer:
    _check(m, divisor_override=None)
    if _one(m, "padding"):
        _check(m, count_include_pad=True)
    return _pooling(m, AveragePooling)


def _batch_normalization(m: Any) -> Layer:
    _check(m, affine=True, track_running_stats=True)
    if m.momentum is None:
        raise ValueError("momentum must be a number, got None")
    gamma, beta, mean, var = (_array(a) for a in (m.weight, m.bias, m.running_mean, m.running_var))
    return BatchNormalization(gamma, beta, 1 - m.momentum, mean, var, m.eps)


def _flatten(m: Any) -> Layer:
    _check(m, start_dim=1, end_dim=-1)
    return Flatten()


def _softplus(m: Any) -> Layer:
    _check(m, beta=1)
    if m.threshold < 20:  # from which on PyTorch takes x itself
        raise ValueError(f"threshold must be at least 20, got {m.threshold!r}")
    return Softplus()


def _over_classes(m: Any, kind: type[Layer]) -> Layer:
    if m.dim not in (-1, 1):
        raise ValueError(f"dim must be -1, or 1 of rows, got {m.dim!r}")
    return kind()


_FROM_TORCH: dict[str, Callable[[Any], Layer]] = {
    "Linear": _linear,
    "Conv2d": _convolution,
    "MaxPool2d": _max_pooling,
    "AvgPool2d": _average_pooling,
    "BatchNorm1d": _batch_normalization,
    "BatchNorm2d": _batch_normalization,
    "Dropout": lambda m: Dropout(m.p, inverted=True),
    "Flatten": _flatten,
    "ReLU": lambda m: Relu(),
    "LeakyReLU": lambda m: LeakyRelu(m.negative_slope),
    "Sigmoid": lambda m: Sigmoid(),
    "Tanh": lambda m: Tanh(),
    "Softplus": _softplus,
    "GELU": lambda m: Gelu(m.approximate),
    "SiLU": lambda m: Silu(),
    "Softmax": lambda m: _over_classes(m, Softmax),
    "LogSoftmax": lambda m: _over_classes(m, LogSoftmax),
}


# To PyTorch.


def _fill(module: Any, **arrays: Array) -> Any:
    """Copy arrays into a module's parameters and buffers."""
    import torch

    module.load_state_dict({name: torch.tensor(np.ascontiguousarray(to_cpu(a))) for name, a in arrays.items()})
    return module


def _new(kind: Any, p: Array, *args: Any, **options: Any) -> Any:
    """A module for parameters of p's dtype, drawing no random numbers for them."""
    import torch

    return torch.nn.utils.skip_init(kind, *args, dtype=getattr(torch, p.dtype.name), **options)


def _to_linear(layer: Any, nn: Any) -> Any:
    W, *b = layer.params
    module = _new(nn.Linear, W, *W.shape, bias=bool(b))
    return _fill(module, weight=W.T, bias=b[0]) if b else _fill(module, weight=W.T)


def _to_conv2d(layer: Convolution, nn: Any) -> Any:
    W, b = layer.params
    geometry = W.shape[2:], layer.stride, layer.pad, layer.dilation, layer.groups
    return _fill(_new(nn.Conv2d, W, layer.groups * W.shape[1], len(W), *geometry), weight=W, bias=b)


def _to_batch_norm(layer: BatchNormalization, kind: Any) -> Any:
    gamma, beta = layer.params
    module = _new(kind, gamma, len(gamma), layer.eps, 1 - layer.momentum)
    averages = {"running_mean": layer.running_mean, "running_var": layer.running_var}
    return _fill(module, weight=gamma, bias=beta, num_batches_tracked=np.zeros((), "int64"), **averages)


def _window(layer: Pooling | AveragePooling) -> tuple[Any, int, int]:
    return (layer.pool_h, layer.pool_w), layer.stride, layer.pad


_TO_TORCH: dict[Any, Callable[[Any, Any], Any]] = {
    Affine: _to_linear,
    MatMul: _to_linear,
    Convolution: _to_conv2d,
    Pooling: lambda layer, nn: nn.MaxPool2d(*_window(layer)),
    AveragePooling: lambda layer, nn: nn.AvgPool2d(*_window(layer)),
    Dropout: lambda layer, nn: nn.Dropout(layer.dropout_ratio),
    Flatten: lambda layer, nn: nn.Flatten(),
    Relu: lambda layer, nn: nn.ReLU(),
    LeakyRelu: lambda layer, nn: nn.LeakyReLU(layer.alpha),
    Sigmoid: lambda layer, nn: nn.Sigmoid(),
    Tanh: lambda layer, nn: nn.Tanh(),
    Softplus: lambda layer, nn: nn.Softplus(),
    Gelu: lambda layer, nn: nn.GELU(layer.approximate),
    Silu: lambda layer, nn: nn.SiLU(),
    Softmax: lambda layer, nn: nn.Softmax(dim=-1),
    LogSoftmax: lambda layer, nn: nn.LogSoftmax(dim=-1),
}

# Whatever positive number their input is multiplied by, their output is multiplied by.
_HOMOGENEOUS = {Pooling, AveragePooling, Dropout, Flatten, Relu, LeakyRelu}
