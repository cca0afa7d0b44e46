"""scikit-learn estimators on the compiled training step: `MLPClassifier`, `MLPRegressor`. Needs scikit-learn."""

import warnings
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from numbers import Integral, Real
from operator import is_
from typing import Any

import numpy as np

try:
    import sklearn  # noqa: F401
except ModuleNotFoundError:
    raise ImportError("fastnn.estimators needs scikit-learn: pip install 'fastnn-kernels[sklearn]'") from None
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics import r2_score
from sklearn.model_selection import train_test_split
from sklearn.utils import assert_all_finite, check_random_state
from sklearn.utils.multiclass import check_classification_targets, type_of_target
from sklearn.utils.validation import check_is_fitted, column_or_1d, validate_data

from ._arrays import Array
from .compiled import CompiledPrediction, CompiledStep, compile
from .kernels import get_num_threads
from .layers import Affine, LogSoftmax, MeanSquaredError, Relu, Sigmoid, SoftmaxWithLoss, Tanh
from .models import Network, Parameters
from .optimizer import Adam, Momentum, Nesterov, Optimizer

__all__ = ["MLPClassifier", "MLPRegressor"]

_THREADS_FROM = 1 << 20  # elements: less is looked through for NaN by one
_AS_COMPUTED: Any = {"dtype": (np.float64, np.float32), "order": "C", "ensure_all_finite": False}  # what X becomes
_ACTIVATIONS = {"relu": Relu, "logistic": Sigmoid, "tanh": Tanh, "identity": None}
_CHOICES = {
    "activation": tuple(_ACTIVATIONS),
    "solver": ("adam", "sgd"),
    "learning_rate": ("constant", "invscaling", "adaptive"),
}
_NUMBERS = [
    ("a positive integer", Integral, lambda value: value > 0, ("max_iter",)),
    ("a positive number", Real, lambda value: value > 0, ("learning_rate_init", "n_iter_no_change", "epsilon")),
    ("a number of at least 0", Real, lambda value: value >= 0, ("alpha", "tol", "power_t")),
    (
        "a number between 0 and 1",
        Real,
        lambda value: 0 <= value <= 1,
        ("momentum", "beta_1", "beta_2", "validation_fraction"),
    ),
]
_OF_OPTIMIZER = (
    "solver", "learning_rate", "learning_rate_init", "momentum", "nesterovs_momentum", "beta_1", "beta_2", "epsilon"
)  # fmt: skip


class _Adam(Adam):
    """With a choice of epsilon."""

    def __init__(self, lr: float, beta1: float, beta2: float, epsilon: float) -> None:
        super().__init__(lr, beta1, beta2)
        self.epsilon = epsilon

    def _row(self, t: int) -> tuple[float, ...]:
        return (*super()._row(t)[:-1], self.epsilon)


class _Nesterov(Nesterov):
    """As scikit-learn has it: param <- param + momentum · v - lr · grad."""

    def _row(self, t: int) -> tuple[float, ...]:
        return (*super()._row(t)[:-2], self.momentum, self.lr)


def _is_finite(X: Array) -> bool:
    """Whether the sum of X is, as it mostly is where all of X is. On all threads, where scikit-learn takes one."""

    def is_finite(part: Array) -> bool:
        with np.errstate(all="ignore"):
            return bool(np.isfinite(part.sum()))

    if X.size < _THREADS_FROM or (threads := get_num_threads()) == 1:
        return is_finite(X)
    with ThreadPoolExecutor(threads) as pool:
        return all(pool.map(is_finite, np.array_split(X, threads)))


class _MLP(BaseEstimator):
    """What both estimators share: all but the loss and what y means."""

    def __init__(
        self,
        hidden_layer_sizes: Any = (100,),
        activation: str = "relu",
        *,
        solver: str = "adam",
        alpha: float = 0.0001,
        batch_size: int | str = "auto",
        learning_rate: str = "constant",
        learning_rate_init: float = 0.001,
        power_t: float = 0.5,
        max_iter: int = 200,
        shuffle: bool = True,
        random_state: Any = None,
        tol: float = 1e-4,
        verbose: bool = False,
        warm_start: bool = False,
        momentum: float = 0.9,
        nesterovs_momentum: bool = True,
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-8,
        n_iter_no_change: int = 10,
    ) -> None:
        self.hidden_layer_sizes = hidden_layer_sizes
        self.activation = activation
        self.solver = solver
        self.alpha = alpha
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.learning_rate_init = learning_rate_init
        self.power_t = power_t
        self.max_iter = max_iter
        self.shuffle = shuffle
        self.random_state = random_state
        self.tol = tol
        self.verbose = verbose
        self.warm_start = warm_start
        self.momentum = momentum
        self.nesterovs_momentum = nesterovs_momentum
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.beta_1 = beta_1
        self.beta_2 = beta_2
        self.epsilon = epsilon
        self.n_iter_no_change = n_iter_no_change

    # What the subclasses tell.

    def _targets(self, y: Any, dtype: Any, first: bool) -> tuple[Array, int]:
        """y as the loss takes it, and how many outputs the network needs."""
        raise NotImplementedError

    def _loss_layer(self) -> Any:
        raise NotImplementedError

    def fit(self, X: Any, y: Any) -> Any:
        """Train for up to `max_iter` epochs.

        Parameters
        ----------
        X : array-like
            (n_samples, n_features).
        y : array-like
            (n_samples,) or, to regress on several values, (n_samples, n_outputs).

        Returns
        -------
        The estimator itself.
        """
        anew = not (self.warm_start and hasattr(self, "coefs_"))
        return self._fit(X, y, anew, self.max_iter)

    def _fit(self, X: Any, y: Any, anew: bool, epochs: int) -> Any:
        self._check_parameters()
        X, y = validate_data(self, X, y, reset=anew, multi_output=True, y_numeric=False, **_AS_COMPUTED)
        self._check_finite(X)
        if y.ndim == 2 and y.shape[1] == 1:
            y = column_or_1d(y, warn=True)
        t, outputs = self._targets(y, X.dtype, anew)
        if anew:
            self._begin(X.shape[1], outputs, X.dtype)
        elif (outputs, X.dtype) != (self.n_outputs_, self.coefs_[0].dtype):
            first = f"{self.coefs_[0].dtype} with {self.n_outputs_} outputs as in the first fit"
            raise ValueError(f"{type(self).__name__}: X and y must be {first}, got {X.dtype} with {outputs}")
        elif self._hidden_units() != [W.shape[1] for W in self.coefs_[:-1]]:
            raise ValueError(
                f"{type(self).__name__}: hidden_layer_sizes must be {[W.shape[1] for W in self.coefs_[:-1]]} "
                f"as in the first fit, got {self.hidden_layer_sizes!r}"
            )
        self._train(X, t, epochs)
        if not all(np.isfinite(p).all() for p in self._network()[0].params):
            raise ValueError(f"{type(self).__name__}: weights became infinite; scale X, or lower learning_rate_init")
        return self

    def _check_finite(self, X: Array) -> None:
        if not _is_finite(X):
            assert_all_finite(X, estimator_name=type(self).__name__, input_name="X")

    def _fit_part(self, X: Any, y: Any, anew: bool) -> Any:
        """One epoch."""
        if self.early_stopping:
            raise ValueError(f"{type(self).__name__}: partial_fit does not go with early_stopping=True")
        return self._fit(X, y, anew, 1)

    def _check_parameters(self) -> None:
        who = type(self).__name__
        for name, choices in _CHOICES.items():
            if getattr(self, name) not in choices:
                raise ValueError(f"{who}: {name} must be one of {', '.join(choices)}, got {getattr(self, name)!r}")
        sizes = np.atleast_1d(np.asarray(self.hidden_layer_sizes))
        if sizes.ndim > 1 or (sizes.size and (sizes.dtype.kind not in "iu" or sizes.min() < 1)):
            raise ValueError(f"{who}: hidden_layer_sizes must be positive integers, got {self.hidden_layer_sizes!r}")
        if self.batch_size != "auto" and not (isinstance(self.batch_size, int | np.integer) and self.batch_size > 0):
            raise ValueError(f"{who}: batch_size must be 'auto' or a positive integer, got {self.batch_size!r}")
        for expected, kind, is_right, names in _NUMBERS:
            for name in names:
                value = getattr(self, name)
                if not (isinstance(value, kind) and is_right(value)):
                    raise ValueError(f"{who}: {name} must be {expected}, got {value!r}")

    def _hidden_units(self) -> list[int]:
        units: list[int] = np.atleast_1d(np.asarray(self.hidden_layer_sizes, dtype=int)).tolist()
        return units

    def _begin(self, features: int, outputs: int, dtype: Any) -> None:
        """New weights (Glorot, Bengio 2010), a new optimizer, no epochs done."""
        self._rng = check_random_state(self.random_state)
        self.n_outputs_ = outputs
        units = [features, *self._hidden_units(), outputs]
        self.n_layers_ = len(units)
        shapes: dict[str, tuple[int, ...]] = {f"W{i}": pair for i, pair in enumerate(pairwise(units), 1)}
        shapes |= {f"b{i}": (n,) for i, n in enumerate(units[1:], 1)}
        params = Parameters.allocate(shapes, dtype)
        self.coefs_ = [params[f"W{i}"] for i in range(1, len(units))]
        self.intercepts_ = [params[f"b{i}"] for i in range(1, len(units))]
        for W, b in zip(self.coefs_, self.intercepts_, strict=True):
            bound = np.sqrt((2.0 if self.activation == "logistic" else 6.0) / sum(W.shape))
            W[...], b[...] = self._rng.uniform(-bound, bound, W.shape), self._rng.uniform(-bound, bound, b.shape)
        self._settings: list[Any] = []  # of the optimizer
        self._made: tuple[Network, CompiledPrediction] | None = None
        self._made_of: list[Any] = []
        self.n_iter_ = self.t_ = 0
        self.loss_curve_: list[float] = []
        self.best_loss_ = None if self.early_stopping else np.inf
        self.validation_scores_: list[float] | None = [] if self.early_stopping else None
        self.best_validation_score_ = -np.inf if self.early_stopping else None
        self._epochs_without_gain = 0

    def _new_optimizer(self) -> Optimizer:
        lr = self.learning_rate_init
        if self.solver == "adam":
            return _Adam(lr, self.beta_1, self.beta_2, self.epsilon)
        return (_Nesterov if self.nesterovs_momentum else Momentum)(lr, self.momentum)

    def _network(self) -> tuple[Network, CompiledPrediction]:
        """The layers over `coefs_` and `intercepts_`, and their prediction."""
        made_of = [self.activation, *self.coefs_, *self.intercepts_]
        if self._made is None or len(made_of) != len(self._made_of) or not all(map(is_, made_of, self._made_of)):
            layers: dict[str, Any] = {}
            for i, (W, b) in enumerate(zip(self.coefs_, self.intercepts_, strict=True), 1):
                layers[f"affine{i}"] = Affine(W, b)
                activation = _ACTIVATIONS[self.activation]
                if activation is not None and i < len(self.coefs_):
                    layers[f"{self.activation}{i}"] = activation()
            network = Network(layers, self._loss_layer())
            self._made, self._made_of = (network, compile(network)), made_of
        return self._made

    def __getstate__(self) -> dict[str, Any]:
        return super().__getstate__() | ({"_made": None} if hasattr(self, "_made") else {})

    def _train(self, X: Array, t: Array, epochs: int) -> None:
        X_val = t_val = None
        if self.early_stopping:
            stratify = t if t.ndim == 1 else None
            X, X_val, t, t_val = train_test_split(
                X, t, random_state=self._rng, test_size=self.validation_fraction, stratify=stratify
            )
        n = len(X)
        batch_size = min(200 if isinstance(self.batch_size, str) else self.batch_size, n)
        settings = [getattr(self, name) for name in _OF_OPTIMIZER]
        if settings != self._settings:
            self._optimizer, self._settings = self._new_optimizer(), settings
        network, order = self._network()[0], np.arange(n)
        step = compile(network, self._optimizer)
        data = step.data(X, t)
        best: list[Array] | None = None
        for epoch in range(epochs):
            if self.shuffle:
                self._rng.shuffle(order)
            loss = self._epoch(step, data, order, batch_size) / n
            loss += 0.5 * self.alpha / batch_size * sum(float(np.vdot(p, p)) for p in network.params)
            self.n_iter_ += 1
            self.t_ += n
            self.loss_ = loss
            self.loss_curve_.append(loss)
            if self.verbose:
                print(f"Iteration {self.n_iter_}, loss = {loss:.8f}")
            if self._gained(X_val, t_val) and self.early_stopping:
                best = [p.copy() for p in network.params]
            if self.solver == "sgd" and self.learning_rate == "invscaling":
                self._optimizer.lr = self.learning_rate_init / (self.t_ + 1) ** self.power_t
            if self._epochs_without_gain > self.n_iter_no_change:
                if self.solver != "sgd" or self.learning_rate != "adaptive" or self._optimizer.lr <= 1e-6:
                    break
                self._optimizer.lr /= 5
                self._epochs_without_gain = 0
            if epoch + 1 == epochs == self.max_iter and epochs > 1:
                warnings.warn(
                    f"{type(self).__name__}: max_iter={self.max_iter} epochs did not suffice to converge",
                    ConvergenceWarning,
                    stacklevel=4,
                )
        if best is not None:
            for p, value in zip(network.params, best, strict=True):
                p[...] = value

    def _epoch(self, step: CompiledStep, data: tuple[Array, Array], order: Array, batch_size: int) -> float:
        """All steps of an epoch; returns the sum of the losses of the samples."""
        whole, total = len(order) // batch_size * batch_size, 0.0
        for rows, n in ((order[:whole], batch_size), (order[whole:], len(order) - whole)):
            if n:
                self._optimizer.weight_decay = self.alpha / n
                total += n * float(step.steps(*data, rows, n).sum())
        return total

    def _gained(self, X_val: Any, t_val: Any) -> bool:
        """Whether the epoch brought the best result so far; counts those that brought less than `tol`."""
        if self.early_stopping:
            score = self._validation_score(X_val, t_val)
            assert self.validation_scores_ is not None and self.best_validation_score_ is not None
            self.validation_scores_.append(score)
            if self.verbose:
                print(f"Validation score: {score:.6f}")
            enough, gained = score >= self.best_validation_score_ + self.tol, score > self.best_validation_score_
            self.best_validation_score_ = max(score, self.best_validation_score_)
        else:
            assert self.best_loss_ is not None
            enough, gained = self.loss_ <= self.best_loss_ - self.tol, self.loss_ < self.best_loss_
            self.best_loss_ = min(self.loss_, self.best_loss_)
        self._epochs_without_gain = 0 if enough else self._epochs_without_gain + 1
        return gained

    def _validation_score(self, X: Array, t: Array) -> float:
        raise NotImplementedError

    def _outputs(self, X: Any, probabilities: bool = False) -> Array:
        """Outputs of the last layer, or their softmax."""
        check_is_fitted(self)
        X = validate_data(self, X, reset=False, **_AS_COMPUTED)
        self._check_finite(X)
        _, predict = self._network()
        return predict(X, probabilities=probabilities)


class MLPClassifier(ClassifierMixin, _MLP):
    """Multi-layer perceptron classifier with the interface of ``sklearn.neural_network.MLPClassifier``.

    The network ends in softmax with cross-entropy, for two classes as well. Trained by the compiled step of fastnn,
    in the dtype of X, float32 or float64.

    Parameters
    ----------
    hidden_layer_sizes : int or sequence of int
        Units of each hidden layer.
    activation : {"relu", "logistic", "tanh", "identity"}
        Of the hidden layers.
    solver : {"adam", "sgd"}
        `fastnn.optimizer.Adam`, or momentum.
    alpha : float
        L2 penalty: alpha / (2 · batch_size) · the sum of squares of all weights and intercepts is part of the loss.
    batch_size : int or "auto"
        "auto" is min(200, n_samples). The last batch of an epoch is smaller where they do not divide.
    learning_rate : {"constant", "invscaling", "adaptive"}
        Of "sgd": constant; learning_rate_init / t^power_t after t samples; or divided by 5 whenever
        `n_iter_no_change` epochs brought less than `tol`.
    learning_rate_init, power_t, momentum, nesterovs_momentum, beta_1, beta_2, epsilon
        Of the solvers.
    max_iter : int
        Most epochs.
    shuffle : bool
        Shuffle the samples in every epoch.
    random_state : int, RandomState or None
        Of the initial weights, the order and the validation split.
    tol, n_iter_no_change : float, int
        Training ends when more than so many epochs in a row improved the loss (or, with early stopping, the
        validation score) by less than `tol`.
    verbose : bool
        Print the loss of each epoch.
    warm_start : bool
        `fit` goes on from the present weights; with the optimizer's state, too, unless its settings have changed.
    early_stopping, validation_fraction : bool, float
        Set so much of the data aside, stop by the score on it, and keep the best weights.

    Attributes
    ----------
    classes_ : ndarray
        (n_classes,).
    coefs_, intercepts_ : list of ndarray
        Weights (n_in, n_out) and biases (n_out,) of each layer.
    loss_, best_loss_, loss_curve_ : float, float, list of float
        Mean loss of the last epoch; the smallest; of all epochs.
    validation_scores_, best_validation_score_ : list of float, float
        With early stopping.
    n_iter_, t_ : int
        Epochs and samples seen.
    n_layers_, n_outputs_, n_features_in_ : int
        Of the network, input and output layers included.

    Examples
    --------
    >>> from fastnn import MLPClassifier
    >>> from fastnn.dataset import digits
    >>> (x, t), (x_test, t_test) = digits.load_digits(one_hot_label=False)
    >>> clf = MLPClassifier(learning_rate_init=0.005, tol=0.005, random_state=0).fit(x, t)
    >>> clf.predict_proba(x_test).shape
    (360, 10)
    >>> clf.score(x_test, t_test) > 0.95
    True
    """

    def _loss_layer(self) -> SoftmaxWithLoss:
        return SoftmaxWithLoss()

    def _targets(self, y: Any, dtype: Any, first: bool) -> tuple[Array, int]:
        check_classification_targets(y)
        if type_of_target(y) not in ("binary", "multiclass"):
            raise ValueError(f"MLPClassifier: y must be one label a sample, got {type_of_target(y)} targets")
        if first:
            self.classes_ = np.unique(y) if self._given_classes is None else self._given_classes
        t = np.searchsorted(self.classes_, y)
        if (t >= len(self.classes_)).any() or (self.classes_[t] != y).any():
            raise ValueError(f"MLPClassifier: y must hold the classes {self.classes_.tolist()}, got others")
        return t, len(self.classes_)

    _given_classes: Any = None

    def partial_fit(self, X: Any, y: Any, classes: Any = None) -> "MLPClassifier":
        """Train for one epoch on a part of the data.

        Parameters
        ----------
        X, y : array-like
            As for `fit`.
        classes : array-like, optional
            All labels that will ever come; needed at the first call.
        """
        anew = not hasattr(self, "coefs_")
        if anew and classes is None:
            raise ValueError("MLPClassifier: the first call of partial_fit needs classes")
        if classes is not None:
            self._given_classes = np.unique(classes)
            if not anew and not np.array_equal(self._given_classes, self.classes_):
                raise ValueError(
                    f"MLPClassifier: classes must be {self.classes_.tolist()} as at first, got {list(classes)}"
                )
        try:
            return self._fit_part(X, y, anew)
        finally:
            self.__dict__.pop("_given_classes", None)

    def predict_proba(self, X: Any) -> Array:
        """Probabilities of the classes: (n_samples, n_classes)."""
        return self._outputs(X, probabilities=True)

    def predict_log_proba(self, X: Any) -> Array:
        """Logarithms of `predict_proba`."""
        return LogSoftmax().forward(self._outputs(X))

    def predict(self, X: Any) -> Array:
        """The most probable class of each sample: (n_samples,)."""
        best = self._outputs(X).argmax(axis=1)
        return self.classes_[best]

    def _validation_score(self, X: Array, t: Array) -> float:
        _, predict = self._network()
        return float((predict(X).argmax(axis=1) == t).mean())


class MLPRegressor(RegressorMixin, _MLP):
    """Multi-layer perceptron regressor with the interface of ``sklearn.neural_network.MLPRegressor``.

    The loss is half the squared error, summed over outputs, averaged over samples. Trained by the compiled step of
    fastnn, in the dtype of X, float32 or float64.

    Parameters
    ----------
    hidden_layer_sizes, activation, solver, ...
        As for `MLPClassifier`.

    Attributes
    ----------
    coefs_, intercepts_, loss_, loss_curve_, n_iter_, ...
        As for `MLPClassifier`.

    Examples
    --------
    >>> import numpy as np
    >>> from fastnn import MLPRegressor
    >>> x = np.linspace(-1, 1, 200)[:, None]
    >>> reg = MLPRegressor(20, batch_size=20, learning_rate_init=0.02, random_state=0).fit(x, np.abs(x[:, 0]))
    >>> reg.score(x, np.abs(x[:, 0])) > 0.98
    True
    """

    def _loss_layer(self) -> MeanSquaredError:
        return MeanSquaredError(self.n_outputs_ / 2)

    def _targets(self, y: Any, dtype: Any, first: bool) -> tuple[Array, int]:
        y = np.asarray(y, dtype)
        if first:
            self._one_dimensional = y.ndim == 1
        t = y.reshape(len(y), -1)
        return t, t.shape[1]

    def partial_fit(self, X: Any, y: Any) -> "MLPRegressor":
        """Train for one epoch on a part of the data: X and y as for `fit`."""
        return self._fit_part(X, y, anew=not hasattr(self, "coefs_"))

    def predict(self, X: Any) -> Array:
        """(n_samples,), or (n_samples, n_outputs) if y had columns."""
        y = self._outputs(X)
        return y[:, 0] if self._one_dimensional else y

    def _validation_score(self, X: Array, t: Array) -> float:
        _, predict = self._network()
        return float(r2_score(t, predict(X)))
