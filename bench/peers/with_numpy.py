"""NumPy: as in the book, and by one who knows it."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

from fastnn._backends import BACKENDS

from .. import book
from ..cases import Array, Case, Job
from ..convnets import ConvNet, book_network
from ..networks import LR, Inputs, Network
from .peer import Peer


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

    def settings(self, case: Case) -> tuple[int | None, ...]:
        return self.threads if case.flops else self.threads[:1]  # only products are shared out

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
