"""Networks: training steps, inference of one batch, and of 10,000 images batch by batch."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from .cases import COMPILED, LAYERS, Array, Case, check_close
from .goals import BEST

LR = 0.01
IMAGES = 10_000


@dataclasses.dataclass(frozen=True)
class Inputs:
    """Parameters of each layer, samples, labels."""

    params: list[tuple[Array, Array]]
    x: Array
    t: Array

    def copies(self) -> list[tuple[Array, Array]]:
        """The parameters, to be trained."""
        return [(W.copy(), b.copy()) for W, b in self.params]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Network(Case):
    """Affine layers with an activation between them.

    Attributes
    ----------
    sizes : tuple of int
        Values a sample, units of each layer.
    batch : int
        Samples that are treated at once.
    activation : {"relu", "sigmoid"}
    """

    sizes: tuple[int, ...]
    batch: int
    activation: str = "relu"

    @property
    def name(self) -> str:
        return f"{'-'.join(map(str, self.sizes))} {self.activation}, {self.batch}"

    @property
    def samples(self) -> int:
        return self.batch

    @property
    def _products(self) -> list[int]:
        return [2 * self.samples * D * F for D, F in zip(self.sizes, self.sizes[1:], strict=False)]

    @property
    def _parameters(self) -> int:
        return sum((D + 1) * F for D, F in zip(self.sizes, self.sizes[1:], strict=False))

    @property
    def flops(self) -> int:
        return sum(self._products)

    @property
    def bytes(self) -> int:
        values = self.samples * (self.sizes[0] + self.sizes[-1]) + self._parameters
        return values * np.dtype(self.dtype).itemsize

    def inputs(self) -> Inputs:
        rng = np.random.default_rng(1)  # no unit of relu lies so near to 0 that rounding decides (with seed 0 one does)

        def normal(shape: tuple[int, ...], scale: float) -> Array:
            return (scale * rng.standard_normal(shape)).astype(self.dtype)

        pairs = zip(self.sizes, self.sizes[1:], strict=False)
        params = [(normal((D, F), np.sqrt(2 / D)), normal((F,), 0.1)) for D, F in pairs]
        x = rng.random((self.samples, self.sizes[0])).astype(self.dtype)
        return Inputs(params, x, rng.integers(self.sizes[-1], size=self.samples))


class Training(Network):
    """Forward, loss, backward and SGD update."""

    kind = "train"
    first_steps = 3

    @property
    def flops(self) -> int:
        """Without the gradient for the network's input."""
        return 3 * sum(self._products) - self._products[0]

    @property
    def bytes(self) -> int:
        """The batch; the parameters, read and written, and their gradients, written."""
        values = self.batch * self.sizes[0] + 3 * self._parameters
        return values * np.dtype(self.dtype).itemsize

    def check(self, data: Inputs, got: list[Array]) -> None:
        """The parameters after the first steps."""
        params = _in_float64(data.params)
        for _ in range(self.first_steps):
            params = _step(params, data.x.astype("float64"), data.t, self.activation)
        check_close(got, _flat(params), self.dtype, _flat(data.params))


class Inference(Network):
    """Probabilities of the classes, for one batch."""

    kind = "predict"

    def check(self, data: Inputs, got: list[Array]) -> None:
        scores = _outputs(_in_float64(data.params), data.x.astype("float64"), self.activation)[-1]
        check_close(got, [_softmax(scores)], self.dtype)


class Images(Inference):
    """The book's experiment (book 1, section 3.6.3): 10,000 images, one by one or in batches."""

    kind = "images"

    @property
    def samples(self) -> int:
        return IMAGES


def _flat(params: list[tuple[Array, Array]]) -> list[Array]:
    return [p for pair in params for p in pair]


def _in_float64(params: list[tuple[Array, Array]]) -> list[tuple[Array, Array]]:
    return [(W.astype("float64"), b.astype("float64")) for W, b in params]


def _outputs(params: list[tuple[Array, Array]], x: Array, activation: str) -> list[Array]:
    outputs = [x]
    for i, (W, b) in enumerate(params):
        z = outputs[-1] @ W + b
        hidden = i < len(params) - 1
        outputs.append(z if not hidden else np.maximum(z, 0) if activation == "relu" else 1 / (1 + np.exp(-z)))
    return outputs


def _softmax(scores: Array) -> Array:
    e = np.exp(scores - scores.max(axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True)


def _step(params: list[tuple[Array, Array]], x: Array, t: Array, activation: str) -> list[tuple[Array, Array]]:
    *outputs, scores = _outputs(params, x, activation)
    delta = (_softmax(scores) - np.eye(scores.shape[1])[t]) / len(x)
    stepped = []
    for (W, b), h in zip(reversed(params), reversed(outputs), strict=True):
        stepped.append((W - LR * (h.T @ delta), b - LR * delta.sum(axis=0)))
        delta = (delta @ W.T) * ((h > 0) if activation == "relu" else h * (1 - h))
    return stepped[::-1]


def _trained(
    sizes: tuple[int, ...], batch: int, layers: float, compiled: float, compiled64: float, activation: str = "relu"
) -> list[Network]:
    goals: dict[str, dict[str, dict[str, float]]] = {
        "float32": {LAYERS: {BEST: layers}, COMPILED: {BEST: compiled}},
        "float64": {COMPILED: {BEST: compiled64}},
    }
    return [Training(d, goals=g, sizes=sizes, batch=batch, activation=activation) for d, g in goals.items()]


def _predicted(kind: type[Network], batch: int, compiled: float | None = None) -> list[Network]:
    shape: dict[str, Any] = {"sizes": (784, 50, 100, 10), "batch": batch, "activation": "sigmoid"}
    goals = {COMPILED: {BEST: compiled}} if compiled else {}
    return [kind("float32", goals=goals, **shape), kind("float64", **shape)]


NETWORKS = [
    *_trained((2, 10, 3), 30, 1.2, 8.0, 6.0, "sigmoid"),
    *_trained((784, 50, 10), 100, 1.6, 2.4, 1.8),
    *_trained((784, 100, 100, 10), 128, 1.4, 1.8, 1.5),
    *_trained((784, 512, 512, 10), 128, 1.15, 1.3, 1.2),
    *_trained((1024, 1024, 1024, 1024), 512, 1.0, 1.08, 1.1),
    *_predicted(Inference, 1, 2.0),
    *_predicted(Inference, 10, 1.6),
    *_predicted(Inference, 100, 1.4),
    *_predicted(Inference, 1000, 1.25),
    *_predicted(Inference, 10000, 1.3),
    *(case for batch in (1, 10, 100, 1000) for case in _predicted(Images, batch)),
]
