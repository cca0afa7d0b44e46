"""Layers of convolutional networks, on 100 images."""

from __future__ import annotations

import dataclasses
from functools import partial
from typing import Any

import numpy as np

from ..cases import Array, check_close
from ..goals import BEST, PEAK
from .op import Op, rows

N = 100


@dataclasses.dataclass(frozen=True, kw_only=True)
class Convolution(Op):
    """Images (N, C, H, W), filters (F, C, k, k); book 1, section 7.4."""

    filters: int
    k: int
    pad: int = 0
    stride: int = 1

    what = ""

    @property
    def name(self) -> str:
        _, C, H, _ = self.shape
        stride = f", stride {self.stride}" if self.stride > 1 else ""
        return f"{self.what}, {C} to {self.filters}, {self.k} x {self.k} on {H} x {H}{stride}"

    @property
    def samples(self) -> int:
        return self.shape[0]

    @property
    def out_shape(self) -> tuple[int, int, int, int]:
        side = (self.shape[2] + 2 * self.pad - self.k) // self.stride + 1
        return self.shape[0], self.filters, side, side

    @property
    def filter_shape(self) -> tuple[int, int, int, int]:
        return self.filters, self.shape[1], self.k, self.k

    @property
    def flops(self) -> int:
        return 2 * int(np.prod(self.out_shape)) * self.shape[1] * self.k**2

    @property
    def moved(self) -> int:
        return int(np.prod(self.shape)) + int(np.prod(self.out_shape)) + int(np.prod(self.filter_shape))

    def arrays(self, rng: np.random.Generator) -> list[Array]:
        shapes = self.shape, self.filter_shape, (self.filters,), self.out_shape
        return [rng.standard_normal(shape) for shape in shapes]  # x, W, b, dout

    @property
    def geometry(self) -> tuple[tuple[int, int], ...]:
        """Stride, pad and dilation, as kernels take them."""
        return (self.stride, self.stride), (self.pad, self.pad), (1, 1)

    def layer(self, W: Array, b: Array) -> Any:
        from fastnn.layers import Convolution

        return Convolution(W, b, stride=self.stride, pad=self.pad)

    def torch_backward(self, torch: Any, x: Any, W: Any, dout: Any, mask: list[bool]) -> Any:
        stride, pad, dilation = self.geometry
        sizes = [self.filters], stride, pad, dilation, False, [0, 0], 1, mask
        return partial(torch.ops.aten.convolution_backward, dout, x, W, *sizes)


class ConvolutionForward(Convolution):
    """The convolution and its bias."""

    what = "convolution forward"

    def expected(self, x: Array, W: Array, b: Array, dout: Array) -> Array:
        from fastnn import kernels

        out = np.empty(self.out_shape)
        kernels.get("ref").convolution_forward(x, W, b, *self.geometry, out)
        return out

    def fastnn(self, x: Array, W: Array, b: Array, dout: Array) -> Any:
        return partial(self.layer(W, b).forward, x)

    def torch(self, torch: Any, x: Any, W: Any, b: Any, dout: Any) -> Any:
        return torch.inference_mode()(partial(torch.conv2d, x, W, b, self.stride, self.pad))


class ConvolutionBackwardInput(Convolution):
    """The gradient for the images."""

    what = "convolution dx"

    def expected(self, x: Array, W: Array, b: Array, dout: Array) -> Array:
        from fastnn import kernels

        dx = np.empty_like(x)
        kernels.get("ref").convolution_backward_input(dout, W, *self.geometry, dx)
        return dx

    def fastnn(self, x: Array, W: Array, b: Array, dout: Array) -> Any:
        from fastnn import kernels

        dx = np.empty_like(x)
        backward = partial(kernels.get("cpu").convolution_backward_input, dout, W, *self.geometry, dx)

        def call() -> Array:
            backward()
            return dx

        return call

    def torch(self, torch: Any, x: Any, W: Any, b: Any, dout: Any) -> Any:
        backward = self.torch_backward(torch, x, W, dout, [True, False, False])
        return lambda: backward()[0]


class ConvolutionBackwardParams(Convolution):
    """The gradients for the filters and the bias."""

    what = "convolution dW, db"

    def expected(self, x: Array, W: Array, b: Array, dout: Array) -> list[Array]:
        from fastnn import kernels

        dW, db = np.empty_like(W), np.empty_like(b)
        kernels.get("ref").convolution_backward_params(x, dout, *self.geometry, dW, db)
        return [dW, db]

    def fastnn(self, x: Array, W: Array, b: Array, dout: Array) -> Any:
        layer = self.layer(W, b)
        layer.forward(x)

        def call() -> list[Array]:
            layer.backward(dout, input_gradient=False)
            return layer.grads

        return call

    def torch(self, torch: Any, x: Any, W: Any, b: Any, dout: Any) -> Any:
        backward = self.torch_backward(torch, x, W, dout, [False, True, True])
        return lambda: list(backward()[1:])


class Pooling(Op):
    """The maximum of windows of 2 x 2, and where it was, as training needs it."""

    op = "max-pooling forward"

    @property
    def moved(self) -> int:
        return self.size + self.size // 4

    def expected(self, x: Array) -> Array:
        N, C, H, W = x.shape
        return x.reshape(N, C, H // 2, 2, W // 2, 2).max(axis=(3, 5))

    def fastnn(self, x: Array) -> Any:
        from fastnn.layers import Pooling

        return partial(Pooling(2, 2).forward, x)

    def torch(self, torch: Any, x: Any) -> Any:
        pool = torch.ops.aten.max_pool2d_with_indices
        return lambda: pool(x, [2, 2], [2, 2])[0]


class PoolingBackward(Pooling):
    """The gradient, where the maxima were."""

    op = "max-pooling backward"

    def arrays(self, rng: np.random.Generator) -> list[Array]:
        N, C, H, W = self.shape
        return [rng.standard_normal(self.shape), rng.standard_normal((N, C, H // 2, W // 2))]

    def expected(self, x: Array, dout: Array) -> Array:
        def spread(a: Array) -> Array:
            return a.repeat(2, axis=2).repeat(2, axis=3)

        return spread(dout) * (x == spread(super().expected(x)))

    def fastnn(self, x: Array, dout: Array) -> Any:
        from fastnn.layers import Pooling

        layer = Pooling(2, 2)
        layer.forward(x)
        return partial(layer.backward, dout)

    def torch(self, torch: Any, x: Any, dout: Any) -> Any:
        _, where = torch.ops.aten.max_pool2d_with_indices(x, [2, 2], [2, 2])
        backward = torch.ops.aten.max_pool2d_with_indices_backward
        return partial(backward, dout, x, [2, 2], [2, 2], [0, 0], [1, 1], False, where)


class AveragePooling(Pooling):
    """The mean of windows of 2 x 2."""

    op = "average-pooling forward"

    def expected(self, x: Array) -> Array:
        N, C, H, W = x.shape
        return x.reshape(N, C, H // 2, 2, W // 2, 2).mean(axis=(3, 5))

    def fastnn(self, x: Array) -> Any:
        from fastnn.layers import AveragePooling

        return partial(AveragePooling(2, 2).forward, x)

    def torch(self, torch: Any, x: Any) -> Any:
        return partial(torch.nn.functional.avg_pool2d, x, 2)


class BatchNormalization(Op):
    """By channel, with the batch's own mean and variance."""

    op = "batch normalisation forward"
    epsilon = 1e-6  # fastnn's, and the book's 10e-7

    @property
    def moved(self) -> int:
        return 2 * self.size

    def arrays(self, rng: np.random.Generator) -> list[Array]:
        C = self.shape[1]
        shapes = self.shape, (C,), (C,), self.shape
        return [rng.standard_normal(shape) for shape in shapes]  # x, gamma, beta, dout

    def expected(self, x: Array, gamma: Array, beta: Array, dout: Array) -> Any:
        return self._normalised(x)[0] * gamma[:, None, None] + beta[:, None, None]

    def _normalised(self, x: Array) -> tuple[Array, Array]:
        deviation = np.sqrt(x.var(axis=(0, 2, 3), keepdims=True) + self.epsilon)
        return (x - x.mean(axis=(0, 2, 3), keepdims=True)) / deviation, deviation

    def layer(self, gamma: Array, beta: Array) -> Any:
        from fastnn.layers import BatchNormalization

        return BatchNormalization(gamma, beta)

    def fastnn(self, x: Array, gamma: Array, beta: Array, dout: Array) -> Any:
        return partial(self.layer(gamma, beta).forward, x)

    def torch(self, torch: Any, x: Any, gamma: Any, beta: Any, dout: Any) -> Any:
        running = torch.zeros_like(gamma), torch.ones_like(gamma)
        return lambda: torch.native_batch_norm(x, gamma, beta, *running, True, 0.1, self.epsilon)[0]


class BatchNormalizationBackward(BatchNormalization):
    """The gradients for x, gamma and beta."""

    op = "batch normalisation backward"

    @property
    def moved(self) -> int:
        return 3 * self.size

    def expected(self, x: Array, gamma: Array, beta: Array, dout: Array) -> Any:
        y, deviation = self._normalised(x)
        over = (0, 2, 3)
        dgamma, dbeta = (dout * y).sum(axis=over), dout.sum(axis=over)
        means = (a[:, None, None] * len(gamma) / x.size for a in (dbeta, dgamma))
        mean, slope = means
        return [gamma[:, None, None] / deviation * (dout - mean - y * slope), dgamma, dbeta]

    def fastnn(self, x: Array, gamma: Array, beta: Array, dout: Array) -> Any:
        layer = self.layer(gamma, beta)
        layer.forward(x)
        return lambda: [layer.backward(dout), *layer.grads]

    def torch(self, torch: Any, x: Any, gamma: Any, beta: Any, dout: Any) -> Any:
        running = torch.zeros_like(gamma), torch.ones_like(gamma)
        _, mean, inverse = torch.native_batch_norm(x, gamma, beta, *running, True, 0.1, self.epsilon)
        backward = torch.ops.aten.native_batch_norm_backward
        return lambda: list(backward(dout, x, gamma, *running, mean, inverse, True, self.epsilon, [True] * 3))


class Dropout(Op):
    """Half of the elements set to zero."""

    op = "dropout forward"

    @property
    def moved(self) -> int:
        return 2 * self.size

    def check(self, data: list[Array], got: list[Array]) -> None:
        """Libraries draw, and scale what remains, in ways of their own."""
        x, (y,) = data[0], got
        kept = y != 0
        assert abs(kept.mean() - 0.5) < 5 / np.sqrt(y.size), f"kept {kept.mean():.2%}"
        scale = 2.0 if abs(y).sum() > 0.75 * abs(x).sum() else 1.0
        check_close([y], [np.where(kept, scale * x.astype("float64"), 0)], self.dtype)

    def fastnn(self, x: Array) -> Any:
        from fastnn.layers import Dropout

        return partial(Dropout(0.5, rng=0).forward, x)

    def numpy(self, x: Array) -> Any:
        rng, drawn, out = np.random.default_rng(0), np.empty_like(x), np.empty_like(x)

        def forward() -> Array:
            rng.random(out=drawn, dtype=x.dtype.type)
            return np.multiply(x, drawn > 0.5, out=out)

        return forward

    def torch(self, torch: Any, x: Any) -> Any:
        return torch.inference_mode()(lambda: torch.dropout(x, 0.5, True))


class DropoutBackward(Dropout):
    """The gradient, where elements were kept."""

    op = "dropout backward"

    def fastnn(self, x: Array) -> Any:
        from fastnn.layers import Dropout

        layer = Dropout(0.5, rng=0)
        layer.forward(x)
        return partial(layer.backward, x)

    def numpy(self, x: Array) -> Any:
        kept = np.random.default_rng(0).random(x.shape) > 0.5
        return partial(np.multiply, x, kept, out=np.empty_like(x))

    def torch(self, torch: Any, x: Any) -> Any:
        _, kept = torch.native_dropout(x, 0.5, True)
        return partial(torch.ops.aten.native_dropout_backward.out, x, kept, 2.0, out=torch.empty_like(x))


def _convolutions(
    goals: tuple[float | dict[str, float], ...], C: int, filters: int, size: int, side: int, pad: int, stride: int = 1
) -> list[Op]:
    """Forward, dx, and dW with db; in float32."""
    fields = {"filters": filters, "k": size, "pad": pad, "stride": stride}
    ops = ConvolutionForward, ConvolutionBackwardInput, ConvolutionBackwardParams
    return [
        row
        for op, goal in zip(ops, goals, strict=True)
        for row in rows(op, (N, C, side, side), goals=[goal], dtypes=["float32"], **fields)
    ]


ROWS = [
    *_convolutions((1.5, 1.5, 1.0), 1, 30, 5, 28, pad=0),
    *_convolutions((1.0, 1.0, 1.0), 16, 16, 3, 28, pad=1),
    *_convolutions((1.0, 1.0, 1.0), 32, 64, 3, 14, pad=1),
    *_convolutions(({BEST: 1.0, PEAK: 0.88}, 1.0, 1.0), 64, 64, 3, 56, pad=1),
    *_convolutions((0.9, 0.9, 0.9), 32, 64, 3, 28, pad=1, stride=2),
    *rows(Pooling, (N, 30, 24, 24), (N, 64, 56, 56), goals=(1.0, 2.0), dtypes=["float32"]),
    *rows(PoolingBackward, (N, 30, 24, 24), (N, 64, 56, 56), goals=(1.0, 2.0), dtypes=["float32"]),
    *rows(BatchNormalization, (N, 32, 28, 28), goals=[1.0]),
    *rows(BatchNormalizationBackward, (N, 32, 28, 28), goals=[1.0]),
    *rows(AveragePooling, (N, 64, 56, 56), dtypes=["float32"]),
    *rows(Dropout, (1_000_000,), goals=[5.0]),
    *rows(DropoutBackward, (1_000_000,), dtypes=["float32"]),
]
