"""Whole training runs: the spiral's 300 epochs, and 9,600 mini-batches through `Trainer.fit`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

import fastnn
from fastnn.dataset import spiral
from fastnn.models import TwoLayerNet
from fastnn.optimizer import SGD
from fastnn.trainer import Trainer

from . import book
from .cases import Array

# A run trains a new network and returns its scores of the data; of a loop's runs the first is what the others are
# compared with.
Runs = dict[str, Callable[[], Any]]


def spiral_runs(dtype: str) -> tuple[Runs, Array, float]:
    """2-10-3 sigmoid, mini-batches of 30, 3,000 of them: the book's training of chapter 1.

    Returns
    -------
    runs : dict
    t : ndarray
        Labels.
    accuracy : float
        What a run must reach for its time to count.
    """
    x, t = spiral.load_data()
    x = x.astype(dtype)

    def by_book() -> Array:
        np.random.seed(0)
        W1, W2 = (0.01 * np.random.randn(*shape).astype(dtype) for shape in ((2, 10), (10, 3)))
        net = book.Net([(W1, np.zeros(10, dtype)), (W2, np.zeros(3, dtype))], "sigmoid")
        book.fit(net, book.SGD(1.0), x, t, max_epoch=300, batch_size=30)
        return net.predict(x)

    def new() -> tuple[Any, Any]:
        np.random.seed(0)
        return TwoLayerNet(2, 10, 3, dtype=dtype), SGD(lr=1.0)

    def by_trainer(**options: Any) -> Any:
        model, optimizer = new()
        trainer = Trainer(model, optimizer, **options)
        trainer.fit(x, t, max_epoch=300, batch_size=30, eval_interval=10, verbose=False)
        return model.predict(x)

    def by_epochs() -> Any:
        model, optimizer = new()
        step = fastnn.compile(model, optimizer)
        for _ in range(300):
            step.epoch(x, t, batch_size=30)
        return model.predict(x)

    runs: Runs = {
        "the book's loop, NumPy": by_book,
        "Trainer, layer by layer": lambda: by_trainer(compiled=False),
        "Trainer": by_trainer,
        "step.epoch": by_epochs,
    }
    return runs, t.argmax(axis=1), 0.9


def fit_runs(dtype: str) -> tuple[Runs, Array, float]:
    """784-50-10 relu, 16 epochs of 60,000 images in mini-batches of 100; the bare steps first. Returns as above."""
    rng = np.random.default_rng(0)
    x = rng.random((60_000, 784), "float32").astype(dtype)
    directions = rng.standard_normal((784, 10))
    t = ((x[:, ::8] - 0.5) @ directions[::8]).argmax(axis=1)  # something that can be learned

    def new() -> tuple[Any, Any]:
        return TwoLayerNet(784, 50, 10, activation="relu", dtype=dtype, rng=0), SGD(lr=0.1)

    def by_steps() -> Any:
        model, optimizer = new()
        step = fastnn.compile(model, optimizer)
        for _ in range(16):
            for i in range(0, 60_000, 100):
                step(x[i : i + 100], t[i : i + 100])
        return model.predict(x)

    def by_trainer(**options: Any) -> Any:
        model, optimizer = new()
        Trainer(model, optimizer, **options).fit(x, t, max_epoch=16, batch_size=100, verbose=False, rng=0)
        return model.predict(x)

    def by_epochs() -> Any:
        model, optimizer = new()
        step = fastnn.compile(model, optimizer)
        for epoch in range(16):
            step.epoch(x, t, batch_size=100, rng=epoch)
        return model.predict(x)

    runs: Runs = {
        "bare steps over slices": by_steps,
        "step.epoch": by_epochs,
        "Trainer": by_trainer,
        "Trainer, layer by layer": lambda: by_trainer(compiled=False),
    }
    return runs, t, 0.5


LOOPS = {"spiral, 300 epochs": spiral_runs, "9,600 steps of 784-50-10, 100": fit_runs}
