"""What is measured: one table of cases; the inputs of each and its result in float64."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]

LR = 0.01
CHECKED_STEPS = 3


@dataclasses.dataclass(frozen=True)
class Case:
    """One row of a table.

    Attributes
    ----------
    kind : {"train", "predict", "product", "op"}
        ``train``: forward, loss, backward and SGD update. ``predict``: probabilities. ``product``: one matrix product.
        ``op``: one operation of a layer, named by `op`.
    sizes : tuple of int
        Values a sample, units of each layer.
    batch : int
    activation : {"relu", "sigmoid"}
    goals : dict of str to float
        How many times faster than the best peer fastnn is meant to be, by contestant.
    """

    kind: str
    sizes: tuple[int, ...]
    batch: int
    activation: str = "relu"
    dtype: str = "float32"
    op: str = ""
    goals: dict[str, float] = dataclasses.field(default_factory=dict, hash=False)

    @property
    def name(self) -> str:
        """As in ``784-50-10 relu, 100``."""
        if self.kind == "product":
            return f"{self.batch} x {self.sizes[0]} x {self.sizes[1]}"
        what = self.op.replace("_", " ") if self.op else self.activation
        return f"{'-'.join(map(str, self.sizes))} {what}, {self.batch}"

    @property
    def flops(self) -> int:
        """Floating-point operations of the matrix products: those that must be done, so without dx of the input."""
        layers = [2 * self.batch * D * F for D, F in zip(self.sizes, self.sizes[1:], strict=False)]
        if self.kind == "train":
            return 3 * sum(layers) - layers[0]
        if self.op and not self.op.startswith("affine"):
            return 0
        return sum(layers) * (2 if self.op == "affine_backward" else 1)


LAYERS, COMPILED = "fastnn, layers", "fastnn, compiled"


def _trained(
    sizes: tuple[int, ...], batch: int, layers: float, compiled: float, compiled64: float, activation: str = "relu"
) -> list[Case]:
    goals = {"float32": {LAYERS: layers, COMPILED: compiled}, "float64": {COMPILED: compiled64}}
    return [Case("train", sizes, batch, activation, dtype, goals=g) for dtype, g in goals.items()]


def _predicted(batch: int, compiled: float) -> list[Case]:
    sizes = (784, 50, 100, 10)
    first = Case("predict", sizes, batch, "sigmoid", goals={COMPILED: compiled})
    return [first, Case("predict", sizes, batch, "sigmoid", "float64")]


def _in_both_dtypes(*cases: Case) -> list[Case]:
    return [dataclasses.replace(case, dtype=dtype) for case in cases for dtype in ("float32", "float64")]


CASES = [
    *_trained((2, 10, 3), 30, 1.2, 8.0, 6.0, "sigmoid"),
    *_trained((784, 50, 10), 100, 1.6, 2.4, 1.8),
    *_trained((784, 100, 100, 10), 128, 1.4, 1.8, 1.5),
    *_trained((784, 512, 512, 10), 128, 1.15, 1.3, 1.2),
    *_trained((1024, 1024, 1024, 1024), 512, 1.0, 1.08, 1.1),
    *_predicted(1, 2.0),
    *_predicted(10, 1.6),
    *_predicted(100, 1.4),
    *_predicted(1000, 1.25),
    *_predicted(10000, 1.3),
    *_in_both_dtypes(
        Case("product", (1024, 1024), 1024, goals={LAYERS: 0.97}),
        Case("product", (2048, 2048), 2048, goals={LAYERS: 0.97}),
        Case("op", (784, 50), 100, op="affine_forward"),
        Case("op", (784, 50), 100, op="affine_backward"),
        Case("op", (512, 512), 128, op="affine_forward"),
        Case("op", (512, 512), 128, op="affine_backward"),
        Case("op", (512,), 128, op="relu_forward"),
        Case("op", (512,), 128, op="relu_backward"),
        Case("op", (512,), 128, op="sigmoid_forward"),
        Case("op", (512,), 128, op="sigmoid_backward"),
        Case("op", (10,), 100, op="softmax_with_loss"),
        Case("op", (784, 512), 1, op="sgd_update"),
    ),
]


@dataclasses.dataclass(frozen=True)
class Inputs:
    """What every contestant of a case starts from: parameters of each layer, a batch, labels, a gradient."""

    params: list[tuple[Array, Array]]
    x: Array
    t: Array
    dout: Array

    def copies(self) -> list[tuple[Array, Array]]:
        """The parameters, to be trained."""
        return [(W.copy(), b.copy()) for W, b in self.params]


def inputs(case: Case) -> Inputs:
    """The same numbers at each call, and, rounded, in both dtypes."""
    rng = np.random.default_rng(0)

    def normal(shape: tuple[int, ...], scale: float) -> Array:
        return (scale * rng.standard_normal(shape)).astype(case.dtype)

    params = [
        (normal((D, F), np.sqrt(2 / D)), normal((F,), 0.1)) for D, F in zip(case.sizes, case.sizes[1:], strict=False)
    ]
    shape = (case.batch, case.sizes[0])
    x = normal(shape, 1.0) if case.op else rng.random(shape).astype(case.dtype)
    t = rng.integers(case.sizes[-1], size=case.batch)
    dout = normal((case.batch, case.sizes[-1]), 1.0)
    return Inputs(params, x, t, dout)


def expected(case: Case, data: Inputs) -> list[Array]:
    """The result in float64, written as plainly as can be: what every contestant is held against before it is timed.

    For training these are the parameters after `CHECKED_STEPS` steps, else the outputs.
    """
    params = [(W.astype("float64"), b.astype("float64")) for W, b in data.params]
    x, dout = data.x.astype("float64"), data.dout.astype("float64")
    if case.kind == "train":
        for _ in range(CHECKED_STEPS):
            params = _step(params, x, data.t, case.activation)
        return [p for pair in params for p in pair]
    if case.kind == "predict":
        return [_softmax(_outputs(params, x, case.activation)[-1])]
    if case.kind == "product":
        return [x @ params[0][0]]
    W, b = params[0] if params else (x, x)
    y = 1 / (1 + np.exp(-x))
    results = {
        "affine_forward": lambda: [x @ W + b],
        "affine_backward": lambda: [dout @ W.T, x.T @ dout, dout.sum(axis=0)],
        "relu_forward": lambda: [np.maximum(x, 0)],
        "relu_backward": lambda: [dout * (x > 0)],
        "sigmoid_forward": lambda: [y],
        "sigmoid_backward": lambda: [dout * y * (1 - y)],
        "softmax_with_loss": lambda: [(_softmax(x) - np.eye(x.shape[1])[data.t]) / len(x)],
        "sgd_update": lambda: [W - LR * 0.5 * W],
    }
    return results[case.op]()


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


def check(case: Case, data: Inputs, got: list[Array]) -> None:
    """Raise AssertionError unless `got` is right to rounding.

    A step moves the parameters by little: what is held against the exact result is the movement, with room for the
    rounding of the parameters themselves.
    """
    eps = np.finfo(case.dtype).eps
    start = [p for pair in data.params for p in pair] if case.kind == "train" else None
    want = expected(case, data)
    assert len(got) == len(want), f"{len(got)} results, expected {len(want)}"
    for i, (g, w) in enumerate(zip(got, want, strict=True)):
        assert g.dtype == case.dtype, f"result {i} is {g.dtype}, not {case.dtype}"
        moved = w - start[i] if start else w
        allowed = 1000 * eps * np.linalg.norm(moved) + (4 * eps * np.linalg.norm(w) if start else 0)
        error = np.linalg.norm(g.reshape(w.shape) - w)
        assert error <= allowed, f"result {i} is off by {error:.2g}, {allowed:.2g} are allowed"
