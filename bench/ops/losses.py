"""Losses: each with its gradient, in one call."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

from ..cases import Array
from ..goals import BEST, COPY
from .op import Op, rows


class SoftmaxWithLoss(Op):
    """The mean loss of scores (N, C) against class indices, and its gradient, which is what is looked at."""

    op = "softmax with loss"

    @property
    def moved(self) -> int:
        return 2 * self.size

    @property
    def samples(self) -> int:
        return self.shape[0]

    def arrays(self, rng: np.random.Generator) -> list[Array]:
        return [rng.standard_normal(self.shape), rng.integers(self.shape[1], size=self.shape[0])]

    def expected(self, x: Array, t: Array) -> Array:
        e = np.exp(x - x.max(axis=1, keepdims=True))
        e /= e.sum(axis=1, keepdims=True)
        e[np.arange(len(t)), t] -= 1
        return e / len(x)

    def layer(self) -> Any:
        from fastnn.layers import SoftmaxWithLoss

        return SoftmaxWithLoss()

    def fastnn(self, x: Array, t: Array) -> Any:
        layer = self.layer()

        def both() -> Array:
            layer.forward(x, t)
            return layer.backward()

        return both

    def numpy(self, x: Array, t: Array) -> Any:
        dx, rows = np.empty_like(x), np.arange(len(t))

        def both() -> Array:
            np.subtract(x, np.maximum.reduce(x, axis=1, keepdims=True), out=dx)
            np.exp(dx, out=dx)
            np.divide(dx, np.add.reduce(dx, axis=1, keepdims=True), out=dx)
            correct = dx[rows, t]
            -np.log(correct).mean()
            dx[rows, t] = correct - 1
            return np.divide(dx, len(t), out=dx)

        return both

    def torch_loss(self, torch: Any) -> Any:
        return torch.nn.functional.cross_entropy

    def torch(self, torch: Any, x: Any, t: Any) -> Any:
        scores, loss_of = x.requires_grad_(), self.torch_loss(torch)

        def both() -> Any:
            return torch.autograd.grad(loss_of(scores, t), scores)[0]

        return both

    def jax(self, jax: Any) -> Any:
        def loss(x: Any, t: Any) -> Any:
            log_p = jax.nn.log_softmax(x)
            return -jax.numpy.mean(jax.numpy.take_along_axis(log_p, t[:, None], axis=1))

        return lambda x, t: jax.value_and_grad(loss)(x, t)[1]


class SmoothedLabels(SoftmaxWithLoss):
    """A tenth of each label spread over all classes."""

    op = "softmax with loss, smoothed labels"
    numpy = jax = None

    def expected(self, x: Array, t: Array) -> Array:
        sharp, C = super().expected(x, t), x.shape[1]
        sharp[np.arange(len(t)), t] += 0.1 / len(x)
        return sharp - 0.1 / C / len(x)

    def layer(self) -> Any:
        from fastnn.layers import SoftmaxWithLoss

        return SoftmaxWithLoss(label_smoothing=0.1)

    def torch_loss(self, torch: Any) -> Any:
        return partial(torch.nn.functional.cross_entropy, label_smoothing=0.1)


class MeanSquaredError(SoftmaxWithLoss):
    """The mean of (x - t)²."""

    op = "mean squared error"

    @property
    def moved(self) -> int:
        return 3 * self.size

    def arrays(self, rng: np.random.Generator) -> list[Array]:
        return [rng.standard_normal(self.shape), rng.random(self.shape)]

    def expected(self, x: Array, t: Array) -> Array:
        return 2 / x.size * (x - t)

    def layer(self) -> Any:
        from fastnn.layers import MeanSquaredError

        return MeanSquaredError()

    def numpy(self, x: Array, t: Array) -> Any:
        dx = np.empty_like(x)

        def both() -> Array:
            np.subtract(x, t, out=dx)
            np.vdot(dx, dx) / x.size
            return np.multiply(dx, 2 / x.size, out=dx)

        return both

    def torch_loss(self, torch: Any) -> Any:
        return torch.nn.functional.mse_loss

    def jax(self, jax: Any) -> Any:
        return lambda x, t: jax.value_and_grad(lambda x: ((x - t) ** 2).mean())(x)[1]


class SigmoidWithLoss(MeanSquaredError):
    """The mean binary cross-entropy of sigmoid(x)."""

    op = "sigmoid with loss"
    numpy = None

    def expected(self, x: Array, t: Array) -> Array:
        return (1 / (1 + np.exp(-x)) - t) / x.size

    def layer(self) -> Any:
        from fastnn.layers import SigmoidWithLoss

        return SigmoidWithLoss()

    def torch_loss(self, torch: Any) -> Any:
        return torch.nn.functional.binary_cross_entropy_with_logits

    def jax(self, jax: Any) -> Any:
        def loss(x: Any, t: Any) -> Any:
            return (jax.nn.softplus(x) - x * t).mean()

        return lambda x, t: jax.value_and_grad(loss)(x, t)[1]


SHAPES = (100, 10), (4096, 10), (128, 1000), (512, 32000)
ROWS = [
    *rows(SoftmaxWithLoss, *SHAPES, goals=(8.0, 6.0, 3.0, {BEST: 3.0, COPY: 0.8})),
    *rows(SmoothedLabels, *SHAPES[:3]),
    *rows(MeanSquaredError, (100, 10), (1000, 1000)),
    *rows(SigmoidWithLoss, (100, 10), (1000, 1000)),
]
