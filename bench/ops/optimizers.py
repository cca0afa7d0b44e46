"""Updates of parameters, in place."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

from ..cases import Array
from .op import Op, rows

LR = 0.01


class Sgd(Op):
    """W -= lr · dW."""

    op = "SGD"

    @property
    def moved(self) -> int:
        return 3 * self.size

    def arrays(self, rng: np.random.Generator) -> list[Array]:
        return [rng.standard_normal(self.shape), rng.standard_normal(self.shape)]  # W, dW

    def expected(self, W: Array, dW: Array) -> Array:
        return W - LR * dW

    def fastnn(self, W: Array, dW: Array) -> Any:
        from fastnn.optimizer import SGD

        update, params, grads = SGD(LR).update, [W], [dW]

        def step() -> Array:
            update(params, grads)
            return W

        return step

    def numpy(self, W: Array, dW: Array) -> Any:
        step = np.empty_like(W)

        def update() -> Array:
            np.multiply(LR, dW, out=step)
            return np.subtract(W, step, out=W)

        return update

    def torch(self, torch: Any, W: Any, dW: Any) -> Any:
        return partial(W.add_, dW, alpha=-LR)


ROWS = rows(Sgd, (100_000,), (10_000_000,))
