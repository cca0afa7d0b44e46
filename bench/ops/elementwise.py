"""Activations, forward and backward."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

from fastnn.kernels import ref

from ..cases import Array, check_close
from ..goals import BEST, COPY
from .op import Op, rows

SHAPES = (1_000,), (100_000,), (10_000_000,)


class Forward(Op):
    """y = f(x): fastnn's function with ``out=``."""

    @property
    def moved(self) -> int:
        return 2 * self.size

    @property
    def function(self) -> str:
        """Its name in fastnn and in JAX."""
        return self.op.removesuffix(" forward").replace(" ", "_")

    def fastnn(self, x: Array) -> Any:
        from fastnn import functions

        return partial(getattr(functions, self.function), x, out=np.empty_like(x))

    def torch(self, torch: Any, x: Any) -> Any:
        return partial(getattr(torch.ops.aten, self.function).out, x, out=torch.empty_like(x))

    def jax(self, jax: Any) -> Any:
        return getattr(jax.nn, self.function)


class Backward(Op):
    """dx = dout · f'(x): the layer's, from what its forward kept."""

    layer = ""

    @property
    def moved(self) -> int:
        return 3 * self.size

    def arrays(self, rng: np.random.Generator) -> list[Array]:
        return [rng.standard_normal(self.shape), rng.standard_normal(self.shape)]  # x, dout

    def fastnn(self, x: Array, dout: Array) -> Any:
        from fastnn import layers

        layer = getattr(layers, self.layer)()
        layer.forward(x)
        return partial(layer.backward, dout)

    def jax(self, jax: Any) -> Any:
        """Computed anew from x: two reads and one write, like the others."""
        f = getattr(jax.nn, self.op.removesuffix(" backward").replace(" ", "_"))
        return lambda x, dout: jax.vjp(f, x)[1](dout)[0]


class ReluForward(Forward):
    op = "relu forward"

    def expected(self, x: Array) -> Array:
        return np.maximum(x, 0)

    def numpy(self, x: Array) -> Any:
        return partial(np.maximum, x, 0, out=np.empty_like(x))

    def torch(self, torch: Any, x: Any) -> Any:
        return partial(torch.clamp_min, x, 0, out=torch.empty_like(x))


class ReluBackward(Backward):
    op, layer = "relu backward", "Relu"

    def expected(self, x: Array, dout: Array) -> Array:
        return dout * (x > 0)

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

    def numpy(self, x: Array) -> Any:
        out = np.empty_like(x)

        def sigmoid() -> Array:
            np.negative(x, out=out)
            np.exp(out, out=out)
            np.add(out, 1, out=out)
            return np.reciprocal(out, out=out)

        return sigmoid


class SigmoidBackward(Backward):
    op, layer = "sigmoid backward", "Sigmoid"

    def expected(self, x: Array, dout: Array) -> Array:
        y = 1 / (1 + np.exp(-x))
        return dout * y * (1 - y)

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


class TanhForward(Forward):
    op = "tanh forward"

    def expected(self, x: Array) -> Array:
        return np.tanh(x)

    def numpy(self, x: Array) -> Any:
        return partial(np.tanh, x, out=np.empty_like(x))


class TanhBackward(Backward):
    op, layer = "tanh backward", "Tanh"

    def expected(self, x: Array, dout: Array) -> Array:
        return dout * (1 - np.tanh(x) ** 2)

    def numpy(self, x: Array, dout: Array) -> Any:
        y, dx = np.tanh(x), np.empty_like(x)

        def backward() -> Array:
            np.multiply(y, y, out=dx)
            np.subtract(1, dx, out=dx)
            return np.multiply(dx, dout, out=dx)

        return backward

    def torch(self, torch: Any, x: Any, dout: Any) -> Any:
        backward = torch.ops.aten.tanh_backward.grad_input
        return partial(backward, dout, torch.tanh(x), grad_input=torch.empty_like(x))


class LeakyReluForward(Forward):
    op = "leaky relu forward"

    def expected(self, x: Array) -> Array:
        return np.where(x < 0, 0.01 * x, x)


class LeakyReluBackward(Backward):
    op, layer = "leaky relu backward", "LeakyRelu"

    def expected(self, x: Array, dout: Array) -> Array:
        return np.where(x < 0, 0.01 * dout, dout)

    def torch(self, torch: Any, x: Any, dout: Any) -> Any:
        backward = torch.ops.aten.leaky_relu_backward.grad_input
        return partial(backward, dout, x, 0.01, False, grad_input=torch.empty_like(x))


class SoftplusForward(Forward):
    op = "softplus forward"

    def expected(self, x: Array) -> Array:
        return np.logaddexp(x, 0)


class SoftplusBackward(Backward):
    op, layer = "softplus backward", "Softplus"

    def expected(self, x: Array, dout: Array) -> Array:
        return dout / (1 + np.exp(-x))

    def torch(self, torch: Any, x: Any, dout: Any) -> Any:
        backward = torch.ops.aten.softplus_backward.grad_input
        return partial(backward, dout, x, 1, 20, grad_input=torch.empty_like(x))


class SiluForward(Forward):
    op = "silu forward"

    def expected(self, x: Array) -> Array:
        return x / (1 + np.exp(-x))


class SiluBackward(Backward):
    op, layer = "silu backward", "Silu"

    def expected(self, x: Array, dout: Array) -> Array:
        s = 1 / (1 + np.exp(-x))
        return dout * (s * (1 + x * (1 - s)))

    def torch(self, torch: Any, x: Any, dout: Any) -> Any:
        return partial(torch.ops.aten.silu_backward.grad_input, dout, x, grad_input=torch.empty_like(x))


class GeluForward(Forward):
    """The exact one, by erf."""

    op = "gelu forward"

    def expected(self, x: Array) -> Array:
        out = np.empty_like(x)
        ref.gelu_forward(x, out)
        return out

    def jax(self, jax: Any) -> Any:
        return partial(jax.nn.gelu, approximate=False)


class GeluBackward(Backward):
    op, layer = "gelu backward", "Gelu"

    def expected(self, x: Array, dout: Array) -> Array:
        dx = np.empty_like(x)
        ref.gelu_backward(dout, x, dx)
        return dx

    def torch(self, torch: Any, x: Any, dout: Any) -> Any:
        return partial(torch.ops.aten.gelu_backward.grad_input, dout, x, grad_input=torch.empty_like(x))

    def jax(self, jax: Any) -> Any:
        return lambda x, dout: jax.vjp(partial(jax.nn.gelu, approximate=False), x)[1](dout)[0]


class _Float16:
    """Of x in float16, computed in float32, which the result is."""

    jax = None

    @property
    def bytes(self) -> int:
        return (2 + 4) * self.size

    def check(self, data: list[Array], got: list[Array]) -> None:
        check_close(got, [self.expected(data[0].astype("float64"))], "float32")

    def fastnn(self, x: Array) -> Any:
        from fastnn import functions

        return partial(getattr(functions, self.function), x, out=np.empty(x.shape, "float32"))

    def numpy(self, x: Array) -> Any:
        wide = np.empty(x.shape, "float32")
        compute = super().numpy(wide)

        def forward() -> Array:
            np.copyto(wide, x)
            return compute()

        return forward

    def torch(self, torch: Any, x: Any) -> Any:
        wide = torch.empty(x.shape)
        compute = super().torch(torch, wide)

        def forward() -> Any:
            wide.copy_(x)
            return compute()

        return forward


class ReluForward16(_Float16, ReluForward):
    pass


class SigmoidForward16(_Float16, SigmoidForward):
    pass


GOALS = 2.0, 1.1, {BEST: 1.0, COPY: 0.9}
WITH_GOALS = ReluForward, ReluBackward, SigmoidForward, SigmoidBackward, TanhForward, TanhBackward
OTHERS = (
    LeakyReluForward, LeakyReluBackward, SoftplusForward, SoftplusBackward,
    SiluForward, SiluBackward, GeluForward, GeluBackward,
)  # fmt: skip
ROWS = [
    *(row for op in WITH_GOALS for row in rows(op, *SHAPES, goals=GOALS)),
    *(row for op in OTHERS for row in rows(op, *SHAPES)),
    *rows(ReluForward16, (100_000,), dtypes=["float16"]),
    *rows(SigmoidForward16, (100_000,), dtypes=["float16"]),
]
