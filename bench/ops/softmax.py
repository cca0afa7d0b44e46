"""Softmax and log-softmax over rows, forward and backward."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

from ..cases import Array
from .op import Op, rows


def _softmax(x: Array) -> Array:
    e = np.exp(x - x.max(axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True)


class SoftmaxForward(Op):
    """The layer's forward."""

    op, layer = "softmax forward", "Softmax"

    @property
    def moved(self) -> int:
        return 2 * self.size

    @property
    def samples(self) -> int:
        return self.shape[0]

    def expected(self, x: Array) -> Array:
        return _softmax(x)

    def fastnn(self, x: Array) -> Any:
        from fastnn import layers

        return partial(getattr(layers, self.layer)().forward, x)

    def numpy(self, x: Array) -> Any:
        out = np.empty_like(x)

        def forward() -> Array:
            np.subtract(x, np.maximum.reduce(x, axis=1, keepdims=True), out=out)
            np.exp(out, out=out)
            return np.divide(out, np.add.reduce(out, axis=1, keepdims=True), out=out)

        return forward

    def torch(self, torch: Any, x: Any) -> Any:
        return partial(torch.ops.aten._softmax.out, x, 1, False, out=torch.empty_like(x))

    def jax(self, jax: Any) -> Any:
        return jax.nn.softmax


class SoftmaxBackward(SoftmaxForward):
    """dx = y · (dout - sum of dout · y), from what forward kept."""

    op = "softmax backward"

    @property
    def moved(self) -> int:
        return 3 * self.size

    def arrays(self, rng: np.random.Generator) -> list[Array]:
        return [rng.standard_normal(self.shape), rng.standard_normal(self.shape)]  # x, dout

    def expected(self, x: Array, dout: Array) -> Array:
        y = _softmax(x)
        return y * (dout - (dout * y).sum(axis=1, keepdims=True))

    def fastnn(self, x: Array, dout: Array) -> Any:
        from fastnn import layers

        layer = getattr(layers, self.layer)()
        layer.forward(x)
        return partial(layer.backward, dout)

    def numpy(self, x: Array, dout: Array) -> Any:
        y, dx = _softmax(x), np.empty_like(x)

        def backward() -> Array:
            np.multiply(y, dout, out=dx)
            np.subtract(dout, np.add.reduce(dx, axis=1, keepdims=True), out=dx)
            return np.multiply(dx, y, out=dx)

        return backward

    def torch(self, torch: Any, x: Any, dout: Any) -> Any:
        backward, y = torch.ops.aten._softmax_backward_data.out, torch.softmax(x, 1)
        return partial(backward, dout, y, 1, x.dtype, grad_input=torch.empty_like(x))

    def jax(self, jax: Any) -> Any:
        return lambda x, dout: jax.vjp(jax.nn.softmax, x)[1](dout)[0]


class LogSoftmaxForward(SoftmaxForward):
    op, layer = "log-softmax forward", "LogSoftmax"

    def expected(self, x: Array) -> Array:
        return np.log(_softmax(x))

    def numpy(self, x: Array) -> Any:
        out, e = np.empty_like(x), np.empty_like(x)

        def forward() -> Array:
            np.subtract(x, np.maximum.reduce(x, axis=1, keepdims=True), out=out)
            np.exp(out, out=e)
            return np.subtract(out, np.log(np.add.reduce(e, axis=1, keepdims=True)), out=out)

        return forward

    def torch(self, torch: Any, x: Any) -> Any:
        return partial(torch.ops.aten._log_softmax.out, x, 1, False, out=torch.empty_like(x))

    def jax(self, jax: Any) -> Any:
        return jax.nn.log_softmax


class LogSoftmaxBackward(SoftmaxBackward):
    """dx = dout - y · sum of dout, from what forward kept."""

    op, layer = "log-softmax backward", "LogSoftmax"

    def expected(self, x: Array, dout: Array) -> Array:
        return dout - _softmax(x) * dout.sum(axis=1, keepdims=True)

    def numpy(self, x: Array, dout: Array) -> Any:
        log_y, dx = np.log(_softmax(x)), np.empty_like(x)

        def backward() -> Array:
            np.exp(log_y, out=dx)
            np.multiply(dx, np.add.reduce(dout, axis=1, keepdims=True), out=dx)
            return np.subtract(dout, dx, out=dx)

        return backward

    def torch(self, torch: Any, x: Any, dout: Any) -> Any:
        backward, log_y = torch.ops.aten._log_softmax_backward_data.out, torch.log_softmax(x, 1)
        return partial(backward, dout, log_y, 1, x.dtype, out=torch.empty_like(x))

    def jax(self, jax: Any) -> Any:
        return lambda x, dout: jax.vjp(jax.nn.log_softmax, x)[1](dout)[0]


OPS = SoftmaxForward, SoftmaxBackward, LogSoftmaxForward, LogSoftmaxBackward
ROWS = [row for op in OPS for row in rows(op, (4096, 10), (128, 1000))]
