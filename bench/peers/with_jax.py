"""JAX."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

from ..cases import Array, Case, Job, job_of_outputs
from ..networks import LR, Inputs, Network
from ..ops.op import Op
from .peer import Peer


class Jax(Peer):
    """JAX: one jitted step, its parameters donated; data already on the device."""

    name = "JAX jit"
    library = "jax"

    def __init__(self) -> None:
        import jax

        jax.config.update("jax_platforms", "cpu")
        jax.config.update("jax_enable_x64", True)  # float32 arrays stay float32
        self.jax = jax

    def settings(self, case: Case) -> tuple[int | None, ...]:
        return self.threads if case.flops else self.threads[-1:]

    def use(self, threads: int | None) -> None:
        # JAX has no count of threads that could be set later than its start, but can be told not to share out products.
        self._jit = partial(self.jax.jit, compiler_options={"xla_cpu_multi_thread_eigen": threads != 1})

    def _scores(self, activation: str, params: Any, x: Any) -> Any:
        activate = getattr(self.jax.nn, activation)
        for W, b in params[:-1]:
            x = activate(x @ W + b)
        W, b = params[-1]
        return x @ W + b

    def _on_device(self, data: Inputs) -> tuple[Any, ...]:
        put = self.jax.numpy.array
        return [(put(W), put(b)) for W, b in data.params], put(data.x), put(data.t.astype("int32"))

    def train(self, case: Network, data: Inputs) -> Job:
        jax, jnp = self.jax, self.jax.numpy

        def loss_of(params: Any, x: Any, t: Any) -> Any:
            log_p = jax.nn.log_softmax(self._scores(case.activation, params, x))
            return -jnp.mean(jnp.take_along_axis(log_p, t[:, None], axis=1))

        @partial(self._jit, donate_argnums=0)
        def step(params: Any, x: Any, t: Any) -> Any:
            loss, grads = jax.value_and_grad(loss_of)(params, x, t)
            return jax.tree.map(lambda p, g: p - LR * g, params, grads), loss

        params, x, t = self._on_device(data)

        def call() -> Any:
            nonlocal params
            params, loss = step(params, x, t)
            return loss

        return Job(call, lambda: [np.array(p) for pair in params for p in pair], lambda: jax.block_until_ready(params))

    def predictor(self, case: Network, data: Inputs) -> Any:
        params, _, _ = self._on_device(data)
        jitted = self._jit(lambda params, x: self.jax.nn.softmax(self._scores(case.activation, params, x)))
        return self.jax.numpy.array, lambda x: jitted(params, x).block_until_ready()

    def op(self, case: Op, data: list[Array]) -> Job:
        jitted, inputs = self._jit(case.jax(self.jax)), [self.jax.numpy.array(a) for a in data]
        return job_of_outputs(lambda: self.jax.block_until_ready(jitted(*inputs)))
