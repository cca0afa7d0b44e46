"""Matrix products: alone, and as the affine layer has them."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

from ..cases import Array
from ..goals import BEST, PEAK
from .op import Op, rows


class MatMul(Op):
    """x·W; the shape is that of the three axes: N x D x F."""

    op = "product"

    @property
    def flops(self) -> int:
        return 2 * self.size

    @property
    def moved(self) -> int:
        N, D, F = self.shape
        return N * D + D * F + N * F

    def arrays(self, rng: np.random.Generator) -> list[Array]:
        N, D, F = self.shape
        return [rng.random((N, D)), rng.standard_normal((D, F))]

    def expected(self, x: Array, W: Array) -> Array:
        return x @ W

    def fastnn(self, x: Array, W: Array) -> Any:
        from fastnn.layers import MatMul

        return partial(MatMul(W).forward, x)

    def numpy(self, x: Array, W: Array) -> Any:
        return partial(np.matmul, x, W, out=np.empty((len(x), W.shape[1]), x.dtype))

    def torch(self, torch: Any, x: Any, W: Any) -> Any:
        return partial(torch.mm, x, W, out=torch.empty(len(x), W.shape[1], dtype=x.dtype))

    def jax(self, jax: Any) -> Any:
        return lambda x, W: x @ W


class AffineForward(MatMul):
    """x·W + b."""

    op = "affine forward"

    def arrays(self, rng: np.random.Generator) -> list[Array]:
        return [*super().arrays(rng), rng.standard_normal(self.shape[2])]

    def expected(self, x: Array, W: Array, b: Array) -> Array:
        return x @ W + b

    def fastnn(self, x: Array, W: Array, b: Array) -> Any:
        from fastnn.layers import Affine

        return partial(Affine(W, b).forward, x)

    def numpy(self, x: Array, W: Array, b: Array) -> Any:
        out = np.empty((len(x), len(b)), x.dtype)

        def forward() -> Array:
            np.matmul(x, W, out=out)
            return np.add(out, b, out=out)

        return forward

    def torch(self, torch: Any, x: Any, W: Any, b: Any) -> Any:
        return partial(torch.addmm, b, x, W, out=torch.empty(len(x), len(b), dtype=x.dtype))

    def jax(self, jax: Any) -> Any:
        return lambda x, W, b: x @ W + b


class AffineBackward(MatMul):
    """dx, dW and db."""

    op = "affine backward"

    @property
    def flops(self) -> int:
        return 2 * super().flops

    @property
    def moved(self) -> int:
        return 2 * super().moved

    def arrays(self, rng: np.random.Generator) -> list[Array]:
        N, _, F = self.shape
        return [*super().arrays(rng), rng.standard_normal((N, F))]

    def expected(self, x: Array, W: Array, dout: Array) -> list[Array]:
        return [dout @ W.T, x.T @ dout, dout.sum(axis=0)]

    def fastnn(self, x: Array, W: Array, dout: Array) -> Any:
        from fastnn.layers import Affine

        layer = Affine(W, np.zeros(W.shape[1], W.dtype))
        layer.forward(x)
        return lambda: [layer.backward(dout), *layer.grads]

    def numpy(self, x: Array, W: Array, dout: Array) -> Any:
        dx, dW, db = np.empty_like(x), np.empty_like(W), np.empty_like(dout[0])

        def backward() -> list[Array]:
            np.matmul(dout, W.T, out=dx)
            np.matmul(x.T, dout, out=dW)
            np.add.reduce(dout, axis=0, out=db)
            return [dx, dW, db]

        return backward

    def torch(self, torch: Any, x: Any, W: Any, dout: Any) -> Any:
        dx, dW, db = torch.empty_like(x), torch.empty_like(W), torch.empty_like(dout[0])

        def backward() -> list[Any]:
            torch.mm(dout, W.T, out=dx)
            torch.mm(x.T, dout, out=dW)
            torch.sum(dout, 0, out=db)
            return [dx, dW, db]

        return backward

    def jax(self, jax: Any) -> Any:
        return lambda x, W, dout: [dout @ W.T, x.T @ dout, dout.sum(axis=0)]


ROWS = [
    *rows(MatMul, (1024, 1024, 1024), (2048, 2048, 2048), goals=({BEST: 0.97, PEAK: 0.85},) * 2),
    *rows(AffineForward, (100, 784, 50), (128, 512, 512)),
    *rows(AffineBackward, (100, 784, 50), (128, 512, 512)),
]
