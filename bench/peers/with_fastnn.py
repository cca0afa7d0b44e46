"""fastnn: layer by layer, and compiled."""

from __future__ import annotations

import itertools
from functools import partial
from typing import Any

import numpy as np

from fastnn._backends import network

from ..cases import COMPILED, LAYERS, Array, Job
from ..convnets import ConvNet
from ..networks import LR, Inputs, Network
from .peer import Peer


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
