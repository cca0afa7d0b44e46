"""Whole training runs: the spiral, 9,600 mini-batches through `Trainer.fit`, a classifier as scikit-learn has it."""

from __future__ import annotations

import dataclasses
import os
import warnings
from functools import partial
from typing import Any

import numpy as np

import fastnn
from fastnn.dataset import digits, mnist, spiral
from fastnn.models import TwoLayerNet
from fastnn.optimizer import SGD
from fastnn.trainer import Trainer

from . import book
from .cases import DTYPES, Array, Case, Job
from .goals import BEST
from .peers import Peer

SCIKIT_LEARN, CLASSIFIER = "scikit-learn", "fastnn, MLPClassifier"
TRAINER, TRAINER_LAYERS, EPOCHS = "fastnn, Trainer", "fastnn, Trainer, layers", "fastnn, step.epoch"
BARE = "bare steps"


@dataclasses.dataclass(frozen=True)
class Loop(Case):
    """A training run: trains a new network, and returns it; what it predicts is not timed.

    Attributes
    ----------
    runs : dict of str to str
        Contestants, and the methods that are theirs; those of fastnn are compared with the others.
    accuracy : float
        What a run must reach for its time to count.
    """

    kind = "loop"
    runs = {}  # noqa: RUF012
    accuracy = 0.0

    def check(self, data: tuple[Array, Array], got: list[Array]) -> None:
        reached = (got[0].argmax(axis=1) == data[1]).mean()
        assert reached >= self.accuracy, f"accuracy {reached:.2f}, expected {self.accuracy} or more"

    def new(self) -> tuple[Any, Any]:
        """A network and an optimizer."""
        raise NotImplementedError

    def scores(self, trained: Any, x: Array) -> Array:
        """Of a network that a run returned."""
        return np.asarray(trained.predict(x))


class Spiral(Loop):
    """2-10-3 sigmoid, mini-batches of 30, 3,000 of them: the book's training of chapter 1."""

    name = "spiral, 300 epochs"
    samples = 300 * 300
    runs = {  # noqa: RUF012
        "NumPy, book": "by_book", TRAINER_LAYERS: "by_layers", TRAINER: "by_trainer", EPOCHS: "by_epochs",
    }  # fmt: skip
    accuracy = 0.9

    def inputs(self) -> tuple[Array, Array]:
        x, t = spiral.load_data()
        return x.astype(self.dtype), t.argmax(axis=1)

    def by_book(self, x: Array, t: Array) -> Any:
        np.random.seed(0)
        W1, W2 = (0.01 * np.random.randn(*shape).astype(self.dtype) for shape in ((2, 10), (10, 3)))
        net = book.Net([(W1, np.zeros(10, self.dtype)), (W2, np.zeros(3, self.dtype))], "sigmoid")
        book.fit(net, book.SGD(1.0), x, t, max_epoch=300, batch_size=30)
        return net

    def new(self) -> tuple[Any, Any]:
        np.random.seed(0)
        return TwoLayerNet(2, 10, 3, dtype=self.dtype), SGD(lr=1.0)

    def by_trainer(self, x: Array, t: Array, compiled: bool = True) -> Any:
        model, optimizer = self.new()
        trainer = Trainer(model, optimizer, compiled=compiled)
        trainer.fit(x, t, max_epoch=300, batch_size=30, eval_interval=10, verbose=False)
        return model

    def by_layers(self, x: Array, t: Array) -> Any:
        return self.by_trainer(x, t, compiled=False)

    def by_epochs(self, x: Array, t: Array) -> Any:
        model, optimizer = self.new()
        step = fastnn.compile(model, optimizer)
        for _ in range(300):
            step.epoch(x, t, batch_size=30)
        return model


class Fit(Loop):
    """784-50-10 relu, 16 epochs of 60,000 images in mini-batches of 100; compared with the bare steps."""

    name = "9,600 steps of 784-50-10, 100"
    samples = 16 * 60_000
    runs = {  # noqa: RUF012
        BARE: "by_steps", EPOCHS: "by_epochs", TRAINER: "by_trainer", TRAINER_LAYERS: "by_layers",
    }  # fmt: skip
    accuracy = 0.5

    def inputs(self) -> tuple[Array, Array]:
        rng = np.random.default_rng(0)
        x = rng.random((60_000, 784), "float32").astype(self.dtype)
        directions = rng.standard_normal((784, 10))
        t = ((x[:, ::8] - 0.5) @ directions[::8]).argmax(axis=1)  # something that can be learned
        return x, t

    def new(self) -> tuple[Any, Any]:
        return TwoLayerNet(784, 50, 10, activation="relu", dtype=self.dtype, rng=0), SGD(lr=0.1)

    def by_steps(self, x: Array, t: Array) -> Any:
        model, optimizer = self.new()
        step = fastnn.compile(model, optimizer)
        for _ in range(16):
            for i in range(0, 60_000, 100):
                step(x[i : i + 100], t[i : i + 100])
        return model

    def by_trainer(self, x: Array, t: Array, compiled: bool = True) -> Any:
        model, optimizer = self.new()
        trainer = Trainer(model, optimizer, compiled=compiled)
        trainer.fit(x, t, max_epoch=16, batch_size=100, verbose=False, rng=0)
        return model

    def by_layers(self, x: Array, t: Array) -> Any:
        return self.by_trainer(x, t, compiled=False)

    def by_epochs(self, x: Array, t: Array) -> Any:
        model, optimizer = self.new()
        step = fastnn.compile(model, optimizer)
        for epoch in range(16):
            step.epoch(x, t, batch_size=100, rng=epoch)
        return model


class Estimator(Loop):
    """scikit-learn's default classifier, a hidden layer of 100 and Adam with batches of 200: its fit and ours."""

    runs = {SCIKIT_LEARN: "by_scikit_learn", CLASSIFIER: "by_classifier"}  # noqa: RUF012
    epochs = 0

    def scores(self, trained: Any, x: Array) -> Array:
        return np.asarray(trained.predict_log_proba(x))

    def fit(self, classifier: Any, x: Array, t: Array) -> Any:
        options = {"max_iter": self.epochs, "n_iter_no_change": self.epochs, "random_state": 0}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that so few epochs do not suffice
            return classifier(**options).fit(x, t)

    def by_scikit_learn(self, x: Array, t: Array) -> Any:
        from sklearn.neural_network import MLPClassifier

        return self.fit(MLPClassifier, x, t)

    def by_classifier(self, x: Array, t: Array) -> Any:
        return self.fit(fastnn.MLPClassifier, x, t)


class EstimatorOfDigits(Estimator):
    name = "MLPClassifier, 1,437 digits, 30 epochs"
    samples = 30 * 1437
    epochs = 30
    accuracy = 0.95

    def inputs(self) -> tuple[Array, Array]:
        (x, t), _ = digits.load_digits(one_hot_label=False)
        return x.astype(self.dtype), t


class EstimatorOfImages(Estimator):
    """MNIST, where the environment variable FASTNN_DATA_DIR names its folder; else as many random images."""

    name = "MLPClassifier, 60,000 images, 2 epochs"
    samples = 2 * 60_000
    epochs = 2
    accuracy = 0.95 if "FASTNN_DATA_DIR" in os.environ else 0.5

    def inputs(self) -> tuple[Array, Array]:
        if "FASTNN_DATA_DIR" not in os.environ:
            return Fit(self.dtype).inputs()
        (x, t), _ = mnist.load_mnist()
        return x.astype(self.dtype), t


def _run(name: str) -> type[Peer]:
    """The contestant of that name."""

    class Run(Peer):
        threads = (None,)

        def __init__(self) -> None:
            if name in Estimator.runs:
                import sklearn.neural_network  # noqa: F401  # without it they are skipped

        @classmethod
        def takes(cls, case: Case) -> bool:
            return isinstance(case, Loop) and cls.name in case.runs

        def loop(self, case: Loop, data: tuple[Array, Array]) -> Job:
            train = partial(getattr(case, case.runs[self.name]), *data)
            return Job(train, lambda: [case.scores(train(), data[0])])

    Run.name = name
    return Run


LOOPS = [
    *(Spiral(dtype, goals={TRAINER: {BEST: 30.0}}) for dtype in DTYPES),
    *(Fit(dtype, goals={TRAINER: {BARE: 1 / 1.15}}) for dtype in DTYPES),
    *(EstimatorOfDigits(dtype, goals={CLASSIFIER: {BEST: 4.0}}) for dtype in DTYPES),
    EstimatorOfImages(goals={CLASSIFIER: {BEST: 4.0}}),
]
RUNS = [_run(name) for name in dict.fromkeys(name for case in LOOPS for name in case.runs)]
