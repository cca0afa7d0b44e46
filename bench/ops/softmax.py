"""Softmax with cross-entropy, loss and gradient together."""

from __future__ import annotations

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

    def fastnn(self, x: Array, t: Array) -> Any:
        from fastnn.layers import SoftmaxWithLoss

        layer = SoftmaxWithLoss()

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

    def torch(self, torch: Any, x: Any, t: Any) -> Any:
        scores = x.requires_grad_()

        def both() -> Any:
            loss = torch.nn.functional.cross_entropy(scores, t)
            return torch.autograd.grad(loss, scores)[0]

        return both

    def jax(self, jax: Any) -> Any:
        def loss(x: Any, t: Any) -> Any:
            log_p = jax.nn.log_softmax(x)
            return -jax.numpy.mean(jax.numpy.take_along_axis(log_p, t[:, None], axis=1))

        return lambda x, t: jax.value_and_grad(loss)(x, t)[1]


SHAPES = (100, 10), (4096, 10), (128, 1000), (512, 32000)
ROWS = rows(SoftmaxWithLoss, *SHAPES, goals=(8.0, 6.0, 3.0, {BEST: 3.0, COPY: 0.8}))
