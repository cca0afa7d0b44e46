"""Activations, forward and backward."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

from ..cases import Array
from .op import Op, rows

SHAPES = (1_000,), (100_000,), (10_000_000,)


class Forward(Op):
    """y = f(x)."""

    @property
    def moved(self) -> int:
        return 2 * self.size


class Backward(Op):
    """dx = dout · f'(x), from the output of forward."""

    @property
    def moved(self) -> int:
        return 3 * self.size

    def arrays(self, rng: np.random.Generator) -> list[Array]:
        return [rng.standard_normal(self.shape), rng.standard_normal(self.shape)]  # x, dout


def _backward_of(layer: Any, x: Array, dout: Array) -> Any:
    layer.forward(x)
    return partial(layer.backward, dout)


class ReluForward(Forward):
    op = "relu forward"

    def expected(self, x: Array) -> Array:
        return np.maximum(x, 0)

    def fastnn(self, x: Array) -> Any:
        from fastnn.layers import Relu

        return partial(Relu().forward, x)

    def numpy(self, x: Array) -> Any:
        return partial(np.maximum, x, 0, out=np.empty_like(x))

    def torch(self, torch: Any, x: Any) -> Any:
        return partial(torch.clamp_min, x, 0, out=torch.empty_like(x))

    def jax(self, jax: Any) -> Any:
        return jax.nn.relu


class ReluBackward(Backward):
    op = "relu backward"

    def expected(self, x: Array, dout: Array) -> Array:
        return dout * (x > 0)

    def fastnn(self, x: Array, dout: Array) -> Any:
        from fastnn.layers import Relu

        return _backward_of(Relu(), x, dout)

    def numpy(self, x: Array, dout: Array) -> Any:
        mask, dx = np.empty(x.shape, bool), np.empty_like(x)
        return lambda: np.multiply(dout, np.greater(x, 0, out=mask), out=dx)

    def torch(self, torch: Any, x: Any, dout: Any) -> Any:
        backward = torch.ops.aten.threshold_backward.grad_input
        return partial(backward, dout, x, 0, grad_input=torch.empty_like(x))

    def jax(self, jax: Any) -> Any:
        return lambda x, dout: jax.numpy.where(x > 0, dout, 0)


class SigmoidForward(Forward):
    op = "sigmoid forward"

    def expected(self, x: Array) -> Array:
        return 1 / (1 + np.exp(-x))

    def fastnn(self, x: Array) -> Any:
        from fastnn.layers import Sigmoid

        return partial(Sigmoid().forward, x)

    def numpy(self, x: Array) -> Any:
        out = np.empty_like(x)

        def sigmoid() -> Array:
            np.negative(x, out=out)
            np.exp(out, out=out)
            np.add(out, 1, out=out)
            return np.reciprocal(out, out=out)

        return sigmoid

    def torch(self, torch: Any, x: Any) -> Any:
        return partial(torch.sigmoid, x, out=torch.empty_like(x))

    def jax(self, jax: Any) -> Any:
        return jax.nn.sigmoid


class SigmoidBackward(Backward):
    op = "sigmoid backward"

    def expected(self, x: Array, dout: Array) -> Array:
        y = 1 / (1 + np.exp(-x))
        return dout * y * (1 - y)

    def fastnn(self, x: Array, dout: Array) -> Any:
        from fastnn.layers import Sigmoid

        return _backward_of(Sigmoid(), x, dout)

    def numpy(self, x: Array, dout: Array) -> Any:
        y, dx = 1 / (1 + np.exp(-x)), np.empty_like(x)

        def backward() -> Array:
            np.subtract(1, y, out=dx)
            np.multiply(dx, y, out=dx)
            return np.multiply(dx, dout, out=dx)

        return backward

    def torch(self, torch: Any, x: Any, dout: Any) -> Any:
        backward = torch.ops.aten.sigmoid_backward.grad_input
        return partial(backward, dout, torch.sigmoid(x), grad_input=torch.empty_like(x))

    def jax(self, jax: Any) -> Any:
        def backward(x: Any, dout: Any) -> Any:
            y = jax.nn.sigmoid(x)  # computed anew: two reads and one write, like the others
            return dout * y * (1 - y)

        return backward


GOALS = 2.0, 1.1, 1.0
ROWS = [
    row for op in (ReluForward, ReluBackward, SigmoidForward, SigmoidBackward) for row in rows(op, *SHAPES, goals=GOALS)
]
