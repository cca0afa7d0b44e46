"""PyTorch: eager, and compiled."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from fastnn._backends import torch_model, torch_step

from .. import convnets
from ..cases import Array, Job, job_of_outputs
from ..convnets import ConvNet, torch_network
from ..networks import LR, Inputs, Network
from ..ops.op import Op
from .peer import Peer


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
    took 1.2 to 4 times as long: on small networks longer than eager PyTorch. Compiled prediction takes no part: one
    sample took 36 µs (eager 27, ONNX Runtime 7), 1,000 of them 592 (614 and 487).
    """

    name = "PyTorch, compiled"
    library = ""
    convnet = None  # type: ignore[assignment]
    predictor = None  # type: ignore[assignment]

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
