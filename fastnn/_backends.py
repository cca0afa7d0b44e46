"""One multi-layer perceptron with softmax and cross-entropy, in several libraries, for `fastnn profile` and `bench`.

Each library has two functions, written as one who knows it would: ``step`` trains the parameters it is given by a step
of SGD at each call; ``predictor`` returns probabilities for batches of one size. Parameters are a list of (W, b);
between layers comes ``activation``, "relu" or "sigmoid".
"""

import importlib
from collections.abc import Callable
from functools import partial
from types import SimpleNamespace
from typing import Any

import numpy as np

from ._arrays import Array
from ._device import xp_of

Params = list[tuple[Array, Array]]
Call = Callable[..., Any]


# --- fastnn -------------------------------------------------------------------------------------------------------


def network(params: Params, activation: str) -> Any:
    """A fastnn network that uses these parameters."""
    from .layers import Affine, Relu, Sigmoid, SoftmaxWithLoss
    from .models import Network

    layers: dict[str, Any] = {}
    for i, (W, b) in enumerate(params, start=1):
        layers[f"Affine{i}"] = Affine(W, b)
        layers[f"{activation.capitalize()}{i}"] = Relu() if activation == "relu" else Sigmoid()
    layers.popitem()
    return Network(layers, SoftmaxWithLoss())


def _fastnn_step(params: Params, x: Array, t: Array, activation: str, lr: float) -> Call:
    from .compiled import compile
    from .optimizer import SGD

    return partial(compile(network(params, activation), SGD(lr)), x, t)


def _fastnn_predictor(params: Params, batch: int, activation: str) -> Call:
    from .compiled import compile

    b = params[-1][1]
    out = xp_of(b).empty((batch, b.size), b.dtype)
    return partial(compile(network(params, activation)), out=out, probabilities=True)


# --- NumPy, by a user who knows ``out=``: nothing is allocated twice, nothing computed that is not needed -------------


def _numpy_step(params: Params, x: Array, t: Array, activation: str, lr: float) -> Call:
    outs = [np.empty((len(x), b.size), b.dtype) for _, b in params]
    deltas = [np.empty_like(out) for out in outs]
    grads = [(np.empty_like(W), np.empty_like(b)) for W, b in params]
    rows = np.arange(len(t))
    gradient = _relu_gradient if activation == "relu" else _sigmoid_gradient

    def step() -> Any:
        y = _scores(params, x, outs, activation)
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
            dW *= lr
            W -= dW
            db *= lr
            b -= db
        return -np.log(correct).mean()

    return step


def _numpy_predictor(params: Params, batch: int, activation: str) -> Call:
    outs = [np.empty((batch, b.size), b.dtype) for _, b in params]

    def predict(x: Array) -> Array:
        y = _scores(params, x, outs, activation)
        _softmax_in_place(y)
        return y

    return predict


def _scores(params: Params, x: Array, outs: list[Array], activation: str) -> Array:
    for (W, b), out in zip(params, outs, strict=True):
        np.matmul(x, W, out=out)
        out += b
        if out is not outs[-1]:
            np.maximum(out, 0, out=out) if activation == "relu" else _sigmoid(out, out)
        x = out
    return x


def _sigmoid(x: Array, out: Array) -> None:
    np.negative(x, out=out)
    np.exp(out, out=out)
    out += 1
    np.reciprocal(out, out=out)


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


# --- PyTorch, eager ---------------------------------------------------------------------------------------------------


def torch_model(params: Params, activation: str) -> Any:
    """An ``nn.Sequential`` of ``Linear`` layers with these values."""
    torch = importlib.import_module("torch")
    layers: list[Any] = []
    for W, b in params:
        linear = torch.nn.Linear(*W.shape, dtype=getattr(torch, str(W.dtype)))
        with torch.no_grad():
            linear.weight.copy_(torch.as_tensor(W.T))
            linear.bias.copy_(torch.as_tensor(b))
        layers += [linear, torch.nn.ReLU() if activation == "relu" else torch.nn.Sigmoid()]
    return torch.nn.Sequential(*layers[:-1]).to(torch.as_tensor(params[0][0]).device)


def torch_step(model: Any, x: Any, t: Any, lr: float) -> Call:
    """A step of `model`. SGD as it comes: ``fused`` and ``foreach`` were slower on small networks, equal on large."""
    torch = importlib.import_module("torch")
    optimizer = torch.optim.SGD(model.parameters(), lr=lr)

    def step() -> Any:
        optimizer.zero_grad()
        loss = torch.nn.functional.cross_entropy(model(x), t)
        loss.backward()
        optimizer.step()
        return loss

    return step


def _torch_step(params: Params, x: Array, t: Array, activation: str, lr: float) -> Call:
    torch = importlib.import_module("torch")
    return torch_step(torch_model(params, activation), torch.as_tensor(x), torch.as_tensor(t), lr)


def _torch_predictor(params: Params, batch: int, activation: str) -> Call:
    torch = importlib.import_module("torch")
    model = torch_model(params, activation).eval()

    @torch.inference_mode()
    def predict(x: Array) -> Any:
        return torch.softmax(model(torch.as_tensor(x)), dim=1)

    return predict


BACKENDS = {
    "fastnn": SimpleNamespace(step=_fastnn_step, predictor=_fastnn_predictor),
    "numpy": SimpleNamespace(step=_numpy_step, predictor=_numpy_predictor),
    "torch": SimpleNamespace(step=_torch_step, predictor=_torch_predictor),
}
