"""Updates of parameters, in place: one step from a state of zeros."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..cases import Array, check_close
from .op import Op, rows

LR = 0.01


class Update(Op):
    """One array of parameters W, and its gradient dW."""

    reads_and_writes = 0  # of arrays

    @property
    def moved(self) -> int:
        return self.reads_and_writes * self.size

    def arrays(self, rng: np.random.Generator) -> list[Array]:
        return [rng.standard_normal(self.shape), rng.standard_normal(self.shape)]  # W, dW

    def check(self, data: list[Array], got: list[Array]) -> None:
        """What is looked at is how far W moved."""
        W, dW = (a.astype("float64") for a in data)
        check_close(got, [self.expected(W, dW)], self.dtype, start=[W])

    def fastnn(self, W: Array, dW: Array) -> Any:
        from fastnn import optimizer

        update, params, grads = getattr(optimizer, self.op)(LR).update, [W], [dW]

        def step() -> Array:
            update(params, grads)
            return W

        return step

    def torch_optimizer(self, torch: Any, W: Any) -> Any:
        """The fused one: the others, one operation after another, and of lists of arrays, are slower."""
        raise NotImplementedError

    def torch(self, torch: Any, W: Any, dW: Any) -> Any:
        W.grad = dW
        optimizer = self.torch_optimizer(torch, W)

        def step() -> Any:
            optimizer.step()
            return W

        return step


class Sgd(Update):
    """W -= lr · dW."""

    op = "SGD"
    reads_and_writes = 3

    def expected(self, W: Array, dW: Array) -> Array:
        return W - LR * dW

    def numpy(self, W: Array, dW: Array) -> Any:
        step = np.empty_like(W)

        def update() -> Array:
            np.multiply(LR, dW, out=step)
            return np.subtract(W, step, out=W)

        return update

    def torch_optimizer(self, torch: Any, W: Any) -> Any:
        return torch.optim.SGD([W], LR, fused=True)

    def jax(self, jax: Any) -> Any:
        return lambda W, dW: W - LR * dW


class Momentum(Update):
    """v = 0.9 v - lr · dW, W += v."""

    op = "Momentum"
    reads_and_writes = 5

    def expected(self, W: Array, dW: Array) -> Array:
        return W - LR * dW

    def numpy(self, W: Array, dW: Array) -> Any:
        v, step = np.zeros_like(W), np.empty_like(W)

        def update() -> Array:
            np.multiply(0.9, v, out=v)
            np.multiply(LR, dW, out=step)
            np.subtract(v, step, out=v)
            return np.add(W, v, out=W)

        return update

    def torch_optimizer(self, torch: Any, W: Any) -> Any:
        return torch.optim.SGD([W], LR, momentum=0.9, fused=True)


class RMSprop(Update):
    """h is a running mean of dW², W -= lr · dW / √h."""

    op = "RMSprop"
    reads_and_writes = 5

    def expected(self, W: Array, dW: Array) -> Array:
        return W - LR * dW / (0.1 * np.abs(dW) + 1e-7)

    def numpy(self, W: Array, dW: Array) -> Any:
        h, a = np.zeros_like(W), np.empty_like(W)

        def update() -> Array:
            np.multiply(0.99, h, out=h)
            np.multiply(dW, dW, out=a)
            np.multiply(0.01, a, out=a)
            np.add(h, a, out=h)
            np.sqrt(h, out=a)
            np.add(a, 1e-7, out=a)
            np.divide(dW, a, out=a)
            np.multiply(LR, a, out=a)
            return np.subtract(W, a, out=W)

        return update

    def torch_optimizer(self, torch: Any, W: Any) -> Any:
        return torch.optim.RMSprop([W], LR, eps=1e-7)  # none is fused


class AdaGrad(Update):
    """h is the sum of all dW², W -= lr · dW / √h."""

    op = "AdaGrad"
    reads_and_writes = 5

    def expected(self, W: Array, dW: Array) -> Array:
        return W - LR * dW / (np.abs(dW) + 1e-7)

    def numpy(self, W: Array, dW: Array) -> Any:
        h, a = np.zeros_like(W), np.empty_like(W)

        def update() -> Array:
            np.multiply(dW, dW, out=a)
            np.add(h, a, out=h)
            np.sqrt(h, out=a)
            np.add(a, 1e-7, out=a)
            np.divide(dW, a, out=a)
            np.multiply(LR, a, out=a)
            return np.subtract(W, a, out=W)

        return update

    def torch_optimizer(self, torch: Any, W: Any) -> Any:
        return torch.optim.Adagrad([W], LR, eps=1e-7, fused=True)


class Adam(Update):
    """m and v are running means of dW and dW², W -= lr · m / √v, but for the bias of the means."""

    op = "Adam"
    reads_and_writes = 7

    def expected(self, W: Array, dW: Array) -> Array:
        return W - LR * dW / (np.abs(dW) + 1e-7 / np.sqrt(0.001))

    def numpy(self, W: Array, dW: Array) -> Any:
        m, v, a = np.zeros_like(W), np.zeros_like(W), np.empty_like(W)
        t = 0

        def update() -> Array:
            nonlocal t
            t += 1
            np.subtract(dW, m, out=a)
            np.multiply(0.1, a, out=a)
            np.add(m, a, out=m)
            np.multiply(dW, dW, out=a)
            np.subtract(a, v, out=a)
            np.multiply(0.001, a, out=a)
            np.add(v, a, out=v)
            np.sqrt(v, out=a)
            np.add(a, 1e-7, out=a)
            np.divide(m, a, out=a)
            np.multiply(LR * (1 - 0.999**t) ** 0.5 / (1 - 0.9**t), a, out=a)
            return np.subtract(W, a, out=W)

        return update

    def torch_optimizer(self, torch: Any, W: Any) -> Any:
        # PyTorch adds eps after correcting the bias: this is the same in the first step.
        return torch.optim.Adam([W], LR, eps=1e-7 / 0.001**0.5, fused=True)


class AdamW(Adam):
    """And W *= 1 - lr · decay."""

    op = "AdamW"
    numpy = None

    def expected(self, W: Array, dW: Array) -> Array:
        return super().expected(W, dW) - LR * 0.01 * W

    def torch_optimizer(self, torch: Any, W: Any) -> Any:
        return torch.optim.AdamW([W], LR, eps=1e-7 / 0.001**0.5, weight_decay=0.01, fused=True)


ROWS = [
    *rows(Sgd, (100_000,), (10_000_000,)),
    *rows(Momentum, (100_000,), (10_000_000,), goals=(2.0, 1.0)),
    *rows(Adam, (100_000,), (10_000_000,), goals=(2.0, 1.0)),
    *(row for op in (RMSprop, AdaGrad, AdamW) for row in rows(op, (100_000,), (10_000_000,), dtypes=["float32"])),
]
