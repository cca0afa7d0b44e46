"""Updates of parameters, in place: one step from fresh state."""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import numpy as np

from ..cases import Array, check_close
from .op import Op, rows

LR, MOMENTUM, BETA1, BETA2, EPSILON = 0.01, 0.9, 0.9, 0.999, 1e-7


class Update(Op):
    """W and its gradient; what is looked at is how far W moved.

    Attributes
    ----------
    states : int
        Arrays of W's size that the optimizer keeps, read and written like W.
    """

    states = 0

    @property
    def moved(self) -> int:
        return (3 + 2 * self.states) * self.size

    def arrays(self, rng: np.random.Generator) -> list[Array]:
        return [rng.standard_normal(self.shape), rng.standard_normal(self.shape)]  # W, dW

    def check(self, data: list[Array], got: list[Array]) -> None:
        W, dW = (a.astype("float64") for a in data)
        check_close(got, [self.expected(W, dW)], self.dtype, start=[W])

    def fastnn(self, W: Array, dW: Array) -> Any:
        update, params, grads = self.optimizer().update, [W], [dW]

        def step() -> Array:
            update(params, grads)
            return W

        return step

    def optimizer(self) -> Any:
        """That of fastnn."""
        raise NotImplementedError


def _torch(optimizer: Any, W: Any, dW: Any, **options: Any) -> Any:
    """As PyTorch's users have it, all in one kernel: `optimizer` of W."""
    W.grad = dW
    step = optimizer([W], lr=LR, fused=True, **options).step

    def update() -> Any:
        step()
        return W

    return update


class Sgd(Update):
    """W -= lr · dW."""

    op = "SGD"

    def expected(self, W: Array, dW: Array) -> Array:
        return W - LR * dW

    def optimizer(self) -> Any:
        from fastnn.optimizer import SGD

        return SGD(LR)

    def numpy(self, W: Array, dW: Array) -> Any:
        step = np.empty_like(W)

        def update() -> Array:
            np.multiply(LR, dW, out=step)
            return np.subtract(W, step, out=W)

        return update

    def torch(self, torch: Any, W: Any, dW: Any) -> Any:
        return partial(W.add_, dW, alpha=-LR)


class Momentum(Update):
    """v <- momentum · v - lr · dW; W += v."""

    op = "Momentum"
    states = 1

    def expected(self, W: Array, dW: Array) -> Array:
        return W - LR * dW

    def optimizer(self) -> Any:
        from fastnn.optimizer import Momentum

        return Momentum(LR, MOMENTUM)

    def numpy(self, W: Array, dW: Array) -> Any:
        v, step = np.zeros_like(W), np.empty_like(W)

        def update() -> Array:
            np.multiply(v, MOMENTUM, out=v)
            np.multiply(dW, LR, out=step)
            np.subtract(v, step, out=v)
            return np.add(W, v, out=W)

        return update

    def torch(self, torch: Any, W: Any, dW: Any) -> Any:
        return _torch(torch.optim.SGD, W, dW, momentum=MOMENTUM)


class Adam(Update):
    """Kingma, Ba (2015), as in book 1, section 6.1.6."""

    op = "Adam"
    states = 2

    def expected(self, W: Array, dW: Array) -> Array:
        m, v = (1 - BETA1) * dW, (1 - BETA2) * dW**2
        return W - LR * math.sqrt(1 - BETA2) / (1 - BETA1) * m / (np.sqrt(v) + EPSILON)

    def optimizer(self) -> Any:
        from fastnn.optimizer import Adam

        return Adam(LR, BETA1, BETA2)

    def numpy(self, W: Array, dW: Array) -> Any:
        m, v, a, b = (np.zeros_like(W) for _ in range(4))
        iteration = 0

        def update() -> Array:
            nonlocal iteration
            iteration += 1
            lr = LR * math.sqrt(1 - BETA2**iteration) / (1 - BETA1**iteration)
            np.subtract(dW, m, out=a)
            np.multiply(a, 1 - BETA1, out=a)
            np.add(m, a, out=m)
            np.multiply(dW, dW, out=a)
            np.subtract(a, v, out=a)
            np.multiply(a, 1 - BETA2, out=a)
            np.add(v, a, out=v)
            np.sqrt(v, out=a)
            np.add(a, EPSILON, out=a)
            np.multiply(m, lr, out=b)
            np.divide(b, a, out=b)
            return np.subtract(W, b, out=W)

        return update

    def torch(self, torch: Any, W: Any, dW: Any) -> Any:
        # PyTorch adds eps after the bias is corrected: in the first step this is the same.
        return _torch(torch.optim.Adam, W, dW, betas=(BETA1, BETA2), eps=EPSILON / math.sqrt(1 - BETA2))


SHAPES, GOALS = ((100_000,), (10_000_000,)), (2.0, 1.0)
ROWS = [
    *rows(Sgd, *SHAPES),
    *rows(Momentum, *SHAPES, goals=GOALS),
    *rows(Adam, *SHAPES, goals=GOALS),
]
