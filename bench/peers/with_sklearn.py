"""scikit-learn."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

from ..cases import Array, Job
from ..networks import LR, Inputs, Network
from .with_numpy import NumpyBook


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
