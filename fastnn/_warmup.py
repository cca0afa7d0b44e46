"""Compiling before anybody waits for it: ``fastnn.warmup``, on one small example of each layer."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from . import compiled, kernels, layers, optimizer
from ._arrays import Array
from .layers.layer import Layer, takes_train_flg
from .models import TwoLayerNet

Draw = Callable[..., Array]


class Example(NamedTuple):
    """A layer, made with parameters from draw(*shape), and the shape of an input; for a loss, the labels for x too."""

    make: Callable[[Draw], Layer]
    shape: tuple[int, ...]
    labels: Callable[[Array], Array] | None = None


# By the names of layers, and of what is compiled apart.
EXAMPLES = {
    "Affine": Example(lambda draw: layers.Affine(draw(6, 5), draw(5)), (4, 6)),
    "AveragePooling": Example(lambda draw: layers.AveragePooling(2, 2), (2, 3, 6, 6)),
    "AveragePooling, other windows": Example(lambda draw: layers.AveragePooling(3, 3), (2, 3, 6, 6)),
    "BatchNormalization": Example(lambda draw: layers.BatchNormalization(draw(3), draw(3)), (4, 3, 5, 5)),
    "BatchNormalization, rows": Example(lambda draw: layers.BatchNormalization(draw(6), draw(6), eps=0.1), (4, 6)),
    "Convolution": Example(lambda draw: layers.Convolution(draw(4, 3, 3, 3), draw(4), pad=1), (2, 3, 6, 6)),
    "Convolution, stride": Example(lambda draw: layers.Convolution(draw(4, 3, 3, 3), draw(4), stride=2), (2, 3, 7, 7)),
    "Dropout": Example(lambda draw: layers.Dropout(0.5, rng=0), (4, 6)),
    "Flatten": Example(lambda draw: layers.Flatten(), (4, 2, 3)),
    "Gelu": Example(lambda draw: layers.Gelu(), (4, 6)),
    "Gelu, tanh": Example(lambda draw: layers.Gelu("tanh"), (4, 6)),
    "LeakyRelu": Example(lambda draw: layers.LeakyRelu(), (4, 6)),
    "LogSoftmax": Example(lambda draw: layers.LogSoftmax(), (4, 6)),
    "MatMul": Example(lambda draw: layers.MatMul(draw(6, 5)), (4, 6)),
    "MeanSquaredError": Example(lambda draw: layers.MeanSquaredError(), (4, 6), np.sign),
    "Pooling": Example(lambda draw: layers.Pooling(2, 2), (2, 3, 6, 6)),
    "Pooling, other windows": Example(lambda draw: layers.Pooling(3, 3), (2, 3, 6, 6)),
    "Relu": Example(lambda draw: layers.Relu(), (4, 6)),
    "Sigmoid": Example(lambda draw: layers.Sigmoid(), (4, 6)),
    "SigmoidWithLoss": Example(lambda draw: layers.SigmoidWithLoss(), (4, 6), lambda x: (x > 0).astype(x.dtype)),
    "Silu": Example(lambda draw: layers.Silu(), (4, 6)),
    "Softmax": Example(lambda draw: layers.Softmax(), (4, 6)),
    "SoftmaxWithLoss": Example(lambda draw: layers.SoftmaxWithLoss(), (4, 6), lambda x: np.arange(len(x)) % x.shape[1]),
    "SoftmaxWithLoss, label rows": Example(
        lambda draw: layers.SoftmaxWithLoss(), (4, 6), lambda x: np.eye(6, dtype=x.dtype)[np.arange(len(x)) % 6]
    ),
    "Softplus": Example(lambda draw: layers.Softplus(), (4, 6)),
    "Tanh": Example(lambda draw: layers.Tanh(), (4, 6)),
}

# Values of an input that no kernel shares among threads, though losses have another for even fewer; and that all share.
_SERIAL, _PARALLEL = 8_000, 2**18

_OPTIMIZERS = ("SGD", "Momentum", "Nesterov", "AdaGrad", "RMSprop", "Adam", "AdamW")


def warmup(dtypes: Sequence[str] = ("float32",), layers: Sequence[str] | None = None, progress: bool = True) -> None:
    """Compile what training and prediction need, or read it from the cache, so that nothing later waits for it.

    Parameters
    ----------
    dtypes : sequence of str
        Of ``"float32"`` and ``"float64"``.
    layers : sequence of str, optional
        Names in ``fastnn.layers``. By default all, the compiled step, and the optimizers.
    progress : bool
        Whether a bar on stderr tells how far it is.

    Raises
    ------
    ValueError
        For a dtype or a layer that is not there to be compiled.

    Examples
    --------
    >>> import fastnn
    >>> fastnn.warmup(layers=["Relu"], progress=False)
    """
    from tqdm import tqdm

    for argument, given, known in (
        ("dtypes", dtypes, ("float32", "float64")),
        ("layers", layers or (), dict.fromkeys(map(layer_of, EXAMPLES))),
    ):
        for name in given:
            if name not in known:
                raise ValueError(f"warmup: {argument} must be of {', '.join(known)}, got {name!r}")
    with tqdm(list(_parts(dtypes, layers)), disable=not progress, unit="part", dynamic_ncols=True) as bar:
        for name, run in bar:
            bar.set_description(name)
            run()


def layer_of(name: str) -> str:
    """The layer of an example."""
    return name.partition(",")[0]


def _parts(dtypes: Sequence[str], layers: Sequence[str] | None) -> Iterator[tuple[str, Callable[[], None]]]:
    if layers is None:
        orders = np.zeros((2, 3), np.intp)
        yield "shuffles", partial(kernels.get("cpu").shuffles, np.random.MT19937(0), orders)
    for dtype in dtypes:
        for name in (name for name in EXAMPLES if layers is None or layer_of(name) in layers):
            yield f"{name} {dtype}", partial(_run_layer, EXAMPLES[name], dtype)
        if layers is None:
            for activation in ("relu", "sigmoid"):
                for name in _OPTIMIZERS:
                    run = partial(_run_network, activation, getattr(optimizer, name), dtype)
                    yield f"network of {activation}, {name} {dtype}", run


def _run_layer(example: Example, dtype: str) -> None:
    """Train and predict, with few samples, with more, and with so many that kernels share them."""
    draw = _drawing(dtype)
    layer: Any = example.make(draw)
    values = math.prod(example.shape[1:])
    for samples in (example.shape[0], _SERIAL // values, _PARALLEL // values + 1):
        x = draw(samples, *example.shape[1:])
        if takes_train_flg(layer.__class__):
            layer.forward(x, train_flg=False)
        out = layer.forward(x) if example.labels is None else layer.forward(x, example.labels(x))
        layer.backward(out if example.labels is None else 1.0)


def _run_network(activation: str, kind: Any, dtype: str) -> None:
    """Train and predict compiled, and layer by layer, where products and activations are one kernel."""
    draw = _drawing(dtype)
    for samples, features, hidden in ((4, 2, 3), (4, 64, 5), (256, 256, 256)):
        network = TwoLayerNet(features, hidden, 3, activation=activation, dtype=dtype, rng=0)
        x, t = draw(samples, features), np.arange(samples) % 3
        step = compiled.compile(network, kind())
        step(x, t)
        step.epoch(x, t, rng=0)
        compiled.compile(network)(x)
        network.gradient(x, t)
        kind().update(network.params, network.grads)


def _drawing(dtype: str) -> Draw:
    rng = np.random.default_rng(0)
    return lambda *shape: rng.standard_normal(shape).astype(dtype)
