"""The contestants: each does a case as a good user of that library would write it.

A peer is made once a process, which fails with `ImportError` where its library is not installed. ``use(threads)`` comes
before its cases are built and before each of them is timed. ``train``, ``predict``, ``product`` and ``op`` each build a
`Job`; a peer without one of them does not take part in such cases.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from . import book
from .cases import COMPILED, LAYERS, LR, Array, Case, Inputs


@dataclasses.dataclass
class Job:
    """One contestant's way of doing one case.

    Attributes
    ----------
    call : callable
        Does it once: this is what is timed.
    result : callable
        What came out, as arrays: the parameters after training, else the outputs of one call.
    wait : callable
        Returns when all calls are done; only JAX hands work over and goes on.
    """

    call: Callable[[], Any]
    result: Callable[[], list[Array]]
    wait: Callable[[], Any] = lambda: None


def job_of_outputs(call: Callable[[], Any], outputs: Callable[[], list[Any]] | None = None) -> Job:
    """A job whose result is what `call` returns, or what `outputs` finds after it."""

    def result() -> list[Array]:
        returned = call()
        found = outputs() if outputs else returned
        return [np.array(a) for a in (found if isinstance(found, list | tuple) else [found])]

    return Job(call, result)


class Peer:
    """Base of the contestants."""

    name = ""
    threads: tuple[int | None, ...] = (1, 2)

    def use(self, threads: int | None) -> None:
        """Compute on so many threads from now on; None leaves the library its own choice."""


class NumpyBook(Peer):
    """The book's classes on NumPy."""

    name = "NumPy, book"

    def __init__(self) -> None:
        try:
            from threadpoolctl import ThreadpoolController
        except ImportError:
            self._blas: list[Any] = []
            self.threads = (None,)
        else:
            self._blas = [lib for lib in ThreadpoolController().lib_controllers if lib.user_api == "blas"]

    def use(self, threads: int | None) -> None:
        for lib in self._blas:
            lib.set_num_threads(threads)

    def train(self, case: Case, data: Inputs) -> Job:
        net, optimizer = book.Net(data.copies(), case.activation), book.SGD(LR)

        def step() -> Any:
            loss = net.forward(data.x, data.t)
            net.backward()
            optimizer.update(net.params, net.grads)
            return loss

        return Job(step, lambda: net.params)

    def predict(self, case: Case, data: Inputs) -> Job:
        net = book.Net(data.params, case.activation)
        return job_of_outputs(lambda: book.softmax(net.predict(data.x)))


class Numpy(NumpyBook):
    """NumPy by a user who knows ``out=``: nothing is allocated twice, nothing computed that is not needed."""

    name = "NumPy"

    def train(self, case: Case, data: Inputs) -> Job:
        params, x, t = data.copies(), data.x, data.t
        outs = [np.empty((len(x), b.size), b.dtype) for _, b in params]
        deltas = [np.empty_like(out) for out in outs]
        grads = [(np.empty_like(W), np.empty_like(b)) for W, b in params]
        rows = np.arange(len(t))
        gradient = _relu_gradient if case.activation == "relu" else _sigmoid_gradient

        def step() -> Any:
            y = _scores(params, x, outs, case.activation)
            _softmax_in_place(y)
            correct = y[rows, t]
            y[rows, t] = correct - 1
            y /= len(t)
            delta = y
            for i in range(len(params) - 1, -1, -1):
                (W, b), (dW, db) = params[i], grads[i]
                np.matmul((outs[i - 1] if i else x).T, delta, out=dW)
                np.add.reduce(delta, axis=0, out=db)
                if i:
                    delta = np.matmul(delta, W.T, out=deltas[i - 1])
                    gradient(outs[i - 1], delta)
                dW *= LR
                W -= dW
                db *= LR
                b -= db
            return -np.log(correct).mean()

        return Job(step, lambda: [p for pair in params for p in pair])

    def predict(self, case: Case, data: Inputs) -> Job:
        outs = [np.empty((len(data.x), b.size), b.dtype) for _, b in data.params]

        def predict() -> Array:
            y = _scores(data.params, data.x, outs, case.activation)
            _softmax_in_place(y)
            return y

        return job_of_outputs(predict)

    def product(self, case: Case, data: Inputs) -> Job:
        a, b = data.x, data.params[0][0]
        return job_of_outputs(partial(np.matmul, a, b, out=np.empty((len(a), b.shape[1]), a.dtype)))

    def op(self, case: Case, data: Inputs) -> Job:
        x, t, dout, rows = data.x, data.t, data.dout, np.arange(len(data.t))
        W, b = data.copies()[0] if data.params else (x, x)
        out, dx, dW, db, grad = (np.empty_like(a) for a in (dout, x, W, b, W))
        np.multiply(0.5, W, out=grad)
        y = 1 / (1 + np.exp(-x))

        def affine_forward() -> Array:
            np.matmul(x, W, out=out)
            return np.add(out, b, out=out)

        def affine_backward() -> tuple[Array, ...]:
            np.matmul(dout, W.T, out=dx)
            np.matmul(x.T, dout, out=dW)
            np.add.reduce(dout, axis=0, out=db)
            return dx, dW, db

        def sigmoid_backward() -> Array:
            np.subtract(1, y, out=dx)
            np.multiply(dx, y, out=dx)
            return np.multiply(dx, dout, out=dx)

        def softmax_with_loss() -> Array:
            np.copyto(dx, x)
            _softmax_in_place(dx)
            correct = dx[rows, t]
            -np.log(correct).mean()
            dx[rows, t] = correct - 1
            return np.divide(dx, len(t), out=dx)

        def sgd_update() -> Array:
            np.multiply(LR, grad, out=dW)
            return np.subtract(W, dW, out=W)

        calls: dict[str, Callable[[], Any]] = {
            "affine_forward": affine_forward,
            "affine_backward": affine_backward,
            "relu_forward": partial(np.maximum, x, 0, out=out),
            "relu_backward": lambda: np.multiply(dout, x > 0, out=dx),
            "sigmoid_forward": lambda: _sigmoid(x, out),
            "sigmoid_backward": sigmoid_backward,
            "softmax_with_loss": softmax_with_loss,
            "sgd_update": sgd_update,
        }
        return job_of_outputs(calls[case.op])


def _scores(params: list[tuple[Array, Array]], x: Array, outs: list[Array], activation: str) -> Array:
    for (W, b), out in zip(params, outs, strict=True):
        np.matmul(x, W, out=out)
        out += b
        if out is not outs[-1]:
            np.maximum(out, 0, out=out) if activation == "relu" else _sigmoid(out, out)
        x = out
    return x


def _sigmoid(x: Array, out: Array) -> Array:
    np.negative(x, out=out)
    np.exp(out, out=out)
    out += 1
    return np.reciprocal(out, out=out)


def _softmax_in_place(y: Array) -> None:
    y -= np.maximum.reduce(y, axis=1, keepdims=True)
    np.exp(y, out=y)
    y /= np.add.reduce(y, axis=1, keepdims=True)


def _relu_gradient(out: Array, delta: Array) -> None:
    delta *= out > 0


def _sigmoid_gradient(out: Array, delta: Array) -> None:
    delta *= out
    np.subtract(1, out, out=out)  # the activations are not needed any more
    delta *= out


class Torch(Peer):
    """PyTorch, eager: an `nn.Sequential` of `Linear` layers, `cross_entropy`, SGD.

    SGD as it comes: ``fused`` and ``foreach`` were slower on the small networks and equal on the large.
    """

    name = "PyTorch"

    def __init__(self) -> None:
        import torch

        self.torch = torch

    def use(self, threads: int | None) -> None:
        self.torch.set_num_threads(threads)

    def _model(self, case: Case, data: Inputs) -> Any:
        nn = self.torch.nn
        layers: list[Any] = []
        for W, b in data.params:
            linear = nn.Linear(*W.shape, dtype=getattr(self.torch, case.dtype))
            with self.torch.no_grad():
                linear.weight.copy_(self.torch.from_numpy(W.T))
                linear.bias.copy_(self.torch.from_numpy(b))
            layers += [linear, nn.ReLU() if case.activation == "relu" else nn.Sigmoid()]
        return nn.Sequential(*layers[:-1])

    def _loss(self, model: Any, x: Any, t: Any) -> Any:
        return self.torch.nn.functional.cross_entropy(model(x), t)

    def train(self, case: Case, data: Inputs) -> Job:
        model = self._model(case, data)
        optimizer = self.torch.optim.SGD(model.parameters(), lr=LR)
        x, t = self.torch.from_numpy(data.x), self.torch.from_numpy(data.t)

        def step() -> Any:
            optimizer.zero_grad()
            loss = self._loss(model, x, t)
            loss.backward()
            optimizer.step()
            return loss

        return Job(step, lambda: [p.detach().numpy().T for p in model.parameters()])

    def _probabilities(self, model: Any, x: Any) -> Any:
        return self.torch.softmax(model(x), dim=1)

    def predict(self, case: Case, data: Inputs) -> Job:
        model, x = self._model(case, data).eval(), self.torch.from_numpy(data.x)

        def predict() -> Any:
            with self.torch.inference_mode():
                return self._probabilities(model, x)

        return job_of_outputs(predict)

    def product(self, case: Case, data: Inputs) -> Job:
        a, b = self.torch.from_numpy(data.x), self.torch.from_numpy(data.params[0][0])
        return job_of_outputs(partial(self.torch.mm, a, b, out=self.torch.empty(len(a), b.shape[1], dtype=a.dtype)))

    def op(self, case: Case, data: Inputs) -> Job:
        torch = self.torch
        x, t, dout = (torch.from_numpy(a) for a in (data.x, data.t, data.dout))
        W, b = (torch.from_numpy(p) for p in data.copies()[0]) if data.params else (x, x)
        out, dx, dW, db = (torch.empty_like(a) for a in (dout, x, W, b))
        y, grad, lr = torch.sigmoid(x), 0.5 * W, LR
        scores = x.clone().requires_grad_()

        def affine_backward() -> Any:
            torch.mm(dout, W.T, out=dx)
            torch.mm(x.T, dout, out=dW)
            torch.sum(dout, 0, out=db)
            return dx, dW, db

        def softmax_with_loss() -> Any:
            loss = torch.nn.functional.cross_entropy(scores, t)
            return torch.autograd.grad(loss, scores)[0]

        calls: dict[str, Callable[[], Any]] = {
            "affine_forward": partial(torch.addmm, b, x, W, out=out),
            "affine_backward": affine_backward,
            "relu_forward": partial(torch.clamp_min, x, 0, out=out),
            "relu_backward": partial(torch.ops.aten.threshold_backward.grad_input, dout, x, 0, grad_input=dx),
            "sigmoid_forward": partial(torch.sigmoid, x, out=out),
            "sigmoid_backward": partial(torch.ops.aten.sigmoid_backward.grad_input, dout, y, grad_input=dx),
            "softmax_with_loss": softmax_with_loss,
            "sgd_update": lambda: W.add_(grad, alpha=-lr),
        }
        return job_of_outputs(calls[case.op])


class TorchCompiled(Torch):
    """``torch.compile`` of the whole step: forward, loss, gradients and update in one graph.

    The more usual ``torch.compile`` of model and loss, then ``backward()`` and the optimizer's step, compiled or not,
    took 1.2 to 4 times as long: on small networks longer than eager PyTorch.
    """

    name = "PyTorch, compiled"
    product = op = None  # type: ignore[assignment]

    def train(self, case: Case, data: Inputs) -> Job:
        torch = self.torch
        torch.compiler.reset()
        params = [(torch.from_numpy(W), torch.from_numpy(b)) for W, b in data.copies()]
        x, t = torch.from_numpy(data.x), torch.from_numpy(data.t)
        activate = getattr(torch, case.activation)

        def loss_of(params: Any, x: Any, t: Any) -> Any:
            for W, b in params[:-1]:
                x = activate(torch.addmm(b, x, W))
            W, b = params[-1]
            return torch.nn.functional.cross_entropy(torch.addmm(b, x, W), t)

        @torch.compile(fullgraph=True)
        def step(params: Any, x: Any, t: Any) -> Any:
            grads, loss = torch.func.grad_and_value(loss_of)(params, x, t)
            for pair, gradients in zip(params, grads, strict=True):
                for p, g in zip(pair, gradients, strict=True):
                    p.sub_(g, alpha=LR)
            return loss

        return Job(partial(step, params, x, t), lambda: [p.numpy() for pair in params for p in pair])

    def _probabilities(self, model: Any, x: Any) -> Any:
        return self._compiled(model, x)

    def predict(self, case: Case, data: Inputs) -> Job:
        self.torch.compiler.reset()
        self._compiled = self.torch.compile(super()._probabilities)
        return super().predict(case, data)


class Jax(Peer):
    """JAX: one jitted step, its parameters donated; data already on the device."""

    name = "JAX jit"

    def __init__(self) -> None:
        import jax

        jax.config.update("jax_platforms", "cpu")
        jax.config.update("jax_enable_x64", True)  # float32 arrays stay float32
        self.jax = jax

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

    def train(self, case: Case, data: Inputs) -> Job:
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

    def predict(self, case: Case, data: Inputs) -> Job:
        params, x, _ = self._on_device(data)
        jitted = self._jit(lambda params, x: self.jax.nn.softmax(self._scores(case.activation, params, x)))
        return job_of_outputs(lambda: jitted(params, x).block_until_ready())


class OnnxRuntime(Peer):
    """ONNX Runtime on a graph of Gemm, Sigmoid or Relu, Softmax."""

    name = "ONNX Runtime"

    def __init__(self) -> None:
        import onnx
        import onnxruntime

        self.onnx, self.runtime = onnx, onnxruntime

    def use(self, threads: int | None) -> None:
        self._threads = threads  # of the sessions made from now on

    def predict(self, case: Case, data: Inputs) -> Job:
        helper, to_tensor = self.onnx.helper, self.onnx.numpy_helper.from_array
        nodes, constants, h = [], [], "x"
        for i, (W, b) in enumerate(data.params):
            constants += [to_tensor(W, f"W{i}"), to_tensor(b, f"b{i}")]
            nodes += [helper.make_node("Gemm", [h, f"W{i}", f"b{i}"], [f"z{i}"])]
            last = i == len(data.params) - 1
            nodes += [helper.make_node("Softmax" if last else case.activation.capitalize(), [f"z{i}"], [f"h{i}"])]
            h = f"h{i}"
        element = helper.np_dtype_to_tensor_dtype(np.dtype(case.dtype))
        x, y = (
            helper.make_tensor_value_info(name, element, ["N", size])
            for name, size in (("x", case.sizes[0]), (h, case.sizes[-1]))
        )
        graph = helper.make_graph(nodes, "mlp", [x], [y], constants)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
        options = self.runtime.SessionOptions()
        options.intra_op_num_threads = self._threads
        session = self.runtime.InferenceSession(model.SerializeToString(), options, ["CPUExecutionProvider"])
        # Bound memory, as with fastnn's ``out=``: 5 to 25 % faster than session.run on small batches.
        binding, out = session.io_binding(), np.empty((case.batch, case.sizes[-1]), case.dtype)
        binding.bind_output(h, "cpu", 0, out.dtype, out.shape, out.ctypes.data)

        def predict() -> Array:
            binding.bind_cpu_input("x", data.x)
            session.run_with_iobinding(binding)
            return out

        return job_of_outputs(predict)


class FastnnLayers(Peer):
    """fastnn, layer by layer: what the book's scripts do."""

    name = LAYERS
    threads = (None,)  # its own choice, as users have it

    def _network(self, case: Case, data: Inputs) -> Any:
        from fastnn.layers import Affine, Relu, Sigmoid, SoftmaxWithLoss
        from fastnn.models import Network, TwoLayerNet

        if len(case.sizes) == 3:
            net = TwoLayerNet(*case.sizes, activation=case.activation, dtype=case.dtype)
            for p, values in zip(net.params, itertools.chain.from_iterable(data.params), strict=True):
                p[...] = values
            return net
        layers: dict[str, Any] = {}
        for i, (W, b) in enumerate(data.copies()):
            layers |= {f"affine{i}": Affine(W, b), f"hidden{i}": Relu() if case.activation == "relu" else Sigmoid()}
        layers.popitem()
        return Network(layers, SoftmaxWithLoss())

    def train(self, case: Case, data: Inputs) -> Job:
        from fastnn.optimizer import SGD

        net, optimizer = self._network(case, data), SGD(LR)

        def step() -> Any:
            loss = net.forward(data.x, data.t)
            net.backward(input_gradient=False)
            optimizer.update(net.params, net.grads)
            return loss

        return Job(step, lambda: list(net.params))

    def predict(self, case: Case, data: Inputs) -> Job:
        from fastnn.layers import Softmax

        net, softmax = self._network(case, data), Softmax()
        return job_of_outputs(lambda: softmax.forward(net.predict(data.x)))

    def product(self, case: Case, data: Inputs) -> Job:
        from fastnn.layers import MatMul

        return job_of_outputs(partial(MatMul(data.params[0][0]).forward, data.x))

    def op(self, case: Case, data: Inputs) -> Job:
        from fastnn.layers import Affine, Relu, Sigmoid, SoftmaxWithLoss
        from fastnn.optimizer import SGD

        x, dout = data.x, data.dout
        if case.op == "sgd_update":
            W = data.copies()[0][0]
            return job_of_outputs(partial(SGD(LR).update, [W], [0.5 * W]), lambda: [W])
        if case.op == "softmax_with_loss":
            loss = SoftmaxWithLoss()

            def forward_backward() -> Array:
                loss.forward(x, data.t)
                return loss.backward()

            return job_of_outputs(forward_backward)
        kind, direction = case.op.split("_")
        layer = Affine(*data.params[0]) if kind == "affine" else {"relu": Relu, "sigmoid": Sigmoid}[kind]()
        if direction == "forward":
            return job_of_outputs(partial(layer.forward, x))
        layer.forward(x)
        return job_of_outputs(partial(layer.backward, dout), lambda: [layer.backward(dout), *layer.grads])


class FastnnCompiled(FastnnLayers):
    """fastnn, the whole step or prediction in one compiled call."""

    name = COMPILED
    product = op = None  # type: ignore[assignment]

    def _compile(self, *args: Any) -> Any:
        import fastnn

        return fastnn.compile(*args)

    def train(self, case: Case, data: Inputs) -> Job:
        from fastnn.optimizer import SGD

        net = self._network(case, data)
        return Job(partial(self._compile(net, SGD(LR)), data.x, data.t), lambda: list(net.params))

    def predict(self, case: Case, data: Inputs) -> Job:
        predict = self._compile(self._network(case, data))
        out = np.empty((len(data.x), case.sizes[-1]), case.dtype)
        return job_of_outputs(partial(predict, data.x, out=out, probabilities=True), lambda: [out])


# PyTorch first: loaded after fastnn it would share fastnn's OpenMP, and its settings, in place of its own.
PEERS: tuple[type[Peer], ...] = (
    Torch, TorchCompiled, Jax, OnnxRuntime, NumpyBook, Numpy, FastnnLayers, FastnnCompiled,
)  # fmt: skip


def installed(peers: tuple[type[Peer], ...] = PEERS) -> tuple[list[Peer], dict[str, str]]:
    """The peers that can be had, and why the others cannot."""
    ready, missing = [], {}
    for peer in peers:
        try:
            ready.append(peer())
        except ImportError as error:
            missing[peer.name] = str(error)
    return ready, missing
