"""The contestants: each does a case as a good user of that library would write it.

A peer is made once a process, which fails with `ImportError` where its library is not installed. ``use(threads)`` comes
before its cases are built and before each of them is timed. A method for each kind of case (``train``, ``predict``,
``images``, ``op``) builds a `Job`; a peer without one does not take part in such cases.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from fastnn._backends import BACKENDS, network, torch_model, torch_step

from . import book, convnets
from .cases import COMPILED, LAYERS, Array, Case, Job, job_of_outputs
from .convnets import ConvNet, book_network, torch_network
from .networks import LR, Inference, Inputs, Network
from .ops.op import Op


class Peer:
    """Base of the contestants.

    Attributes
    ----------
    name : str
    library : str
        The method of `Op` that is this contestant's.
    threads : tuple
        How many it is timed with; the best counts.
    """

    name = ""
    library = ""
    threads: tuple[int | None, ...] = (1, 2)
    train: Any = None

    @classmethod
    def takes(cls, case: Case) -> bool:
        """Whether it takes part."""
        if isinstance(case, Op):
            return getattr(case, cls.library, None) is not None
        return getattr(cls, "predictor" if isinstance(case, Inference) else case.kind, None) is not None

    def use(self, threads: int | None) -> None:
        """Compute on so many threads from now on; None leaves the library its own choice."""

    predictor: Any = None  # (case, data) -> what makes a batch its own, what predicts a batch

    def without_gradients(self, call: Callable[..., Any]) -> Callable[..., Any]:
        """`call`, told that nothing will be differentiated."""
        return call

    def predict(self, case: Network, data: Inputs) -> Job:
        convert, predict = self.predictor(case, data)
        return job_of_outputs(self.without_gradients(partial(predict, convert(data.x))))

    def images(self, case: Network, data: Inputs) -> Job:
        convert, predict = self.predictor(case, data)
        batches = [convert(data.x[i : i + case.batch]) for i in range(0, len(data.x), case.batch)]

        @self.without_gradients
        def all_batches() -> None:
            for x in batches:
                predict(x)

        @self.without_gradients
        def result() -> list[Array]:
            return [np.concatenate([np.array(predict(x)) for x in batches])]

        return Job(all_batches, result)

    def op(self, case: Op, data: list[Array]) -> Job:
        return job_of_outputs(getattr(case, self.library)(*(a.copy() for a in data)))


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

    def train(self, case: Network, data: Inputs) -> Job:
        net, optimizer = book.Net(data.copies(), case.activation), book.SGD(LR)

        def step() -> Any:
            loss = net.forward(data.x, data.t)
            net.backward()
            optimizer.update(net.params, net.grads)
            return loss

        return Job(step, lambda: net.params)

    def predictor(self, case: Network, data: Inputs) -> Any:
        net = book.Net(data.params, case.activation)
        return np.array, lambda x: book.softmax(net.predict(x))

    def convnet(self, case: ConvNet, data: tuple[Array, Array]) -> Job:
        net = book_network(case.network(), [p.copy() for p in case.network().params])
        return Job(partial(net.step, *data), lambda: net.params)


class Numpy(NumpyBook):
    """NumPy by a user who knows ``out=``: nothing is allocated twice, nothing computed that is not needed."""

    name = "NumPy"
    library = "numpy"
    convnet = None  # type: ignore[assignment]

    def train(self, case: Network, data: Inputs) -> Job:
        params = data.copies()
        step = BACKENDS["numpy"].step(params, data.x, data.t, case.activation, LR)
        return Job(step, lambda: [p for pair in params for p in pair])

    def predictor(self, case: Network, data: Inputs) -> Any:
        return np.array, BACKENDS["numpy"].predictor(data.params, case.batch, case.activation)


class Torch(Peer):
    """PyTorch, eager: an `nn.Sequential` of `Linear` layers, `cross_entropy`, SGD."""

    name = "PyTorch"
    library = "torch"

    def __init__(self) -> None:
        import torch

        self.torch = torch

    def use(self, threads: int | None) -> None:
        self.torch.set_num_threads(threads)

    def train(self, case: Network, data: Inputs) -> Job:
        model = torch_model(data.params, case.activation)
        step = torch_step(model, self.torch.from_numpy(data.x), self.torch.from_numpy(data.t), LR)
        return Job(step, lambda: [p.detach().numpy().T for p in model.parameters()])

    def convnet(self, case: ConvNet, data: tuple[Array, Array]) -> Job:
        x, t = (self.torch.from_numpy(a) for a in data)
        net = case.network()
        model = torch_network(self.torch, net)

        def params() -> list[Array]:
            trained = [p.detach().numpy() for p in model.parameters()]
            return [p if p.shape == like.shape else p.T for p, like in zip(trained, net.params, strict=True)]

        return Job(torch_step(model, x, t, convnets.LR), params)

    def _probabilities(self, model: Any, x: Any) -> Any:
        return self.torch.softmax(model(x), dim=1)

    def predictor(self, case: Network, data: Inputs) -> Any:
        model = torch_model(data.params, case.activation).eval()
        return self.torch.from_numpy, partial(self._probabilities, model)

    def without_gradients(self, call: Callable[..., Any]) -> Callable[..., Any]:
        return self.torch.inference_mode()(call)

    def op(self, case: Op, data: list[Array]) -> Job:
        return job_of_outputs(case.torch(self.torch, *(self.torch.from_numpy(a.copy()) for a in data)))


class TorchCompiled(Torch):
    """``torch.compile`` of the whole step: forward, loss, gradients and update in one graph.

    The more usual ``torch.compile`` of model and loss, then ``backward()`` and the optimizer's step, compiled or not,
    took 1.2 to 4 times as long: on small networks longer than eager PyTorch.
    """

    name = "PyTorch, compiled"
    library = ""
    convnet = None  # type: ignore[assignment]

    def train(self, case: Network, data: Inputs) -> Job:
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

    def predictor(self, case: Network, data: Inputs) -> Any:
        self.torch.compiler.reset()
        model = torch_model(data.params, case.activation).eval()
        return self.torch.from_numpy, self.torch.compile(partial(self._probabilities, model))


class Jax(Peer):
    """JAX: one jitted step, its parameters donated; data already on the device."""

    name = "JAX jit"
    library = "jax"

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


class OnnxRuntime(Peer):
    """ONNX Runtime on a graph of Gemm, Sigmoid or Relu, Softmax."""

    name = "ONNX Runtime"

    def __init__(self) -> None:
        import onnx
        import onnxruntime

        self.onnx, self.runtime = onnx, onnxruntime

    def use(self, threads: int | None) -> None:
        self._threads = threads  # of the sessions made from now on

    def predictor(self, case: Network, data: Inputs) -> Any:
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

        def predict(x: Array) -> Array:
            binding.bind_cpu_input("x", x)
            session.run_with_iobinding(binding)
            return out

        return np.array, predict


class ScikitLearn(NumpyBook):
    """scikit-learn's MLPClassifier: ``partial_fit`` of one batch, without regularisation and momentum."""

    name = "scikit-learn"
    convnet = None  # type: ignore[assignment]

    def __init__(self) -> None:
        from sklearn.neural_network import MLPClassifier

        super().__init__()
        self._classifier = MLPClassifier

    def _fitted(self, case: Network, data: Inputs) -> Any:
        options = {"alpha": 0, "momentum": 0, "nesterovs_momentum": False, "learning_rate_init": LR, "shuffle": False}
        classifier = self._classifier(
            case.sizes[1:-1], "logistic" if case.activation == "sigmoid" else "relu", solver="sgd",
            batch_size=case.batch, **options,
        )  # fmt: skip
        x, t = data.x[: case.batch], data.t[: case.batch]
        classifier.partial_fit(x, t, classes=np.arange(case.sizes[-1]))  # makes the parameters, which are then set
        for (W, b), coef, intercept in zip(data.params, classifier.coefs_, classifier.intercepts_, strict=True):
            coef[...], intercept[...] = W, b
        return classifier

    def train(self, case: Network, data: Inputs) -> Job:
        classifier = self._fitted(case, data)

        def result() -> list[Array]:
            pairs = zip(classifier.coefs_, classifier.intercepts_, strict=True)
            return [p for pair in pairs for p in pair]

        return Job(partial(classifier.partial_fit, data.x, data.t), result)

    def predictor(self, case: Network, data: Inputs) -> Any:
        return np.array, self._fitted(case, data).predict_proba


class FastnnLayers(Peer):
    """fastnn, layer by layer: what the book's scripts do."""

    name = LAYERS
    library = "fastnn"
    threads = (None,)  # its own choice, as users have it

    def _network(self, case: Network, data: Inputs) -> Any:
        from fastnn.models import TwoLayerNet

        if len(case.sizes) == 3:
            net = TwoLayerNet(*case.sizes, activation=case.activation, dtype=case.dtype)
            for p, values in zip(net.params, itertools.chain.from_iterable(data.params), strict=True):
                p[...] = values
            return net
        return network(data.copies(), case.activation)

    def train(self, case: Network, data: Inputs) -> Job:
        return self._training(self._network(case, data), data.x, data.t)

    def _training(self, net: Any, x: Array, t: Array) -> Job:
        from fastnn.optimizer import SGD

        optimizer = SGD(LR)

        def step() -> Any:
            loss = net.forward(x, t)
            net.backward(input_gradient=False)
            optimizer.update(net.params, net.grads)
            return loss

        return Job(step, lambda: list(net.params))

    def predictor(self, case: Network, data: Inputs) -> Any:
        from fastnn.layers import Softmax

        net, softmax = self._network(case, data), Softmax()
        return np.array, lambda x: softmax.forward(net.predict(x))

    def convnet(self, case: ConvNet, data: tuple[Array, Array]) -> Job:
        return self._training(case.network(), *data)


class FastnnCompiled(FastnnLayers):
    """fastnn, the whole step or prediction in one compiled call."""

    name = COMPILED
    library = ""
    convnet = None  # type: ignore[assignment]

    def _compile(self, *args: Any) -> Any:
        import fastnn

        return fastnn.compile(*args)

    def train(self, case: Network, data: Inputs) -> Job:
        from fastnn.optimizer import SGD

        net = self._network(case, data)
        return Job(partial(self._compile(net, SGD(LR)), data.x, data.t), lambda: list(net.params))

    def predictor(self, case: Network, data: Inputs) -> Any:
        predict = self._compile(self._network(case, data))
        out = np.empty((case.batch, case.sizes[-1]), case.dtype)
        return np.array, partial(predict, out=out, probabilities=True)


# PyTorch first: loaded after fastnn it would share fastnn's OpenMP, and its settings, in place of its own.
PEERS: tuple[type[Peer], ...] = (
    Torch, TorchCompiled, Jax, OnnxRuntime, NumpyBook, Numpy, ScikitLearn, FastnnLayers, FastnnCompiled,
)  # fmt: skip
