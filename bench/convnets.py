"""Training steps of the book's convolutional networks, on 100 images of 28 x 28."""

from __future__ import annotations

import dataclasses
from functools import cache, lru_cache
from typing import Any

import numpy as np

from .cases import LAYERS, Array, Case, check_close
from .goals import BEST

LR = 0.01
N = 100


@dataclasses.dataclass(frozen=True, kw_only=True)
class ConvNet(Case):
    """Forward, loss, backward and SGD update of a network of `fastnn.models`.

    Attributes
    ----------
    model : str
        Its class.
    """

    model: str

    kind = "convnet"
    first_steps = 2

    @property
    def name(self) -> str:
        return f"{self.model}, {N}"

    @property
    def samples(self) -> int:
        return N

    @property
    def flops(self) -> int:
        return _flops(self.model)

    def network(self) -> Any:
        """The same parameters at each call; without dropout, so that results can be compared."""
        from fastnn import models
        from fastnn.layers import Dropout

        net = getattr(models, self.model)(dtype=self.dtype, rng=0)
        for layer in net.layers.values():
            if isinstance(layer, Dropout):
                layer.dropout_ratio = 0.0
        return net

    def inputs(self) -> tuple[Array, Array]:
        rng = np.random.default_rng(0)
        return rng.standard_normal((N, 1, 28, 28)).astype(self.dtype), rng.integers(10, size=N)

    def check(self, data: tuple[Array, Array], got: list[Array]) -> None:
        """The parameters after the first steps, against the book's network in float64."""
        start = [p.astype("float64") for p in self.network().params]
        check_close(got, _by_book(self), self.dtype, start)


@lru_cache(maxsize=1)
def _by_book(case: ConvNet) -> list[Array]:
    x, t = case.inputs()
    net = dataclasses.replace(case, dtype="float64").network()
    by_book = book_network(net, [p.astype("float64") for p in case.network().params])
    for _ in range(case.first_steps):
        by_book.step(x.astype("float64"), t)
    return by_book.params


def book_network(net: Any, params: list[Array]) -> Any:
    """`net` of the book's layers, training `params`."""
    from . import book

    rest, layers = list(params), []
    for layer in net.layers.values():
        kind = type(layer).__name__
        if kind == "Convolution":
            W, b = rest.pop(0), rest.pop(0)
            layers.append(book.Convolution(W, b, layer.stride[0], layer.pad[0]))
        elif kind == "Affine":
            layers.append(book.Affine(rest.pop(0), rest.pop(0)))
        elif kind == "Pooling":
            layers.append(book.Pooling(2, 2, stride=2))
        elif kind == "Relu":
            layers.append(book.Relu())
        else:
            assert kind == "Dropout", kind
    return book.ImageNet(layers, LR)


def torch_network(torch: Any, net: Any) -> Any:
    """`net` of PyTorch's layers, with the same parameters."""
    nn, layers = torch.nn, []
    dtype = getattr(torch, str(net.params[0].dtype))
    for layer in net.layers.values():
        kind = type(layer).__name__
        if kind == "Convolution":
            F, C, size, _ = layer.W.shape
            module = nn.Conv2d(C, F, size, layer.stride, layer.pad, dtype=dtype)
            values = layer.W, layer.b
        elif kind == "Affine":
            if not any(isinstance(m, nn.Flatten) for m in layers):
                layers.append(nn.Flatten())
            module = nn.Linear(*layer.W.shape, dtype=dtype)
            values = layer.W.T, layer.b
        else:
            module, values = {"Pooling": nn.MaxPool2d(2), "Relu": nn.ReLU(), "Dropout": nn.Dropout(0)}[kind], ()
        with torch.no_grad():
            for p, value in zip(module.parameters(), values, strict=True):
                p.copy_(torch.from_numpy(np.array(value)))
        layers.append(module)
    return nn.Sequential(*layers)


@cache
def _flops(model: str) -> int:
    """Of the products of a step, without the gradient for the images."""
    net = ConvNet(model=model).network()
    h, products = np.zeros((1, 1, 28, 28), "float32"), []
    for layer in net.layers.values():
        h = layer.forward(h)
        if hasattr(layer, "W"):
            W = layer.W
            products.append(2 * h.size * (W.shape[0] if W.ndim == 2 else W[0].size))
    return N * (3 * sum(products) - products[0])


CONVNETS = [
    ConvNet(model="SimpleConvNet", goals={LAYERS: {BEST: 1.5, "NumPy, book": 10.0}}),
    ConvNet(model="DeepConvNet", goals={LAYERS: {BEST: 1.1}}),
]
