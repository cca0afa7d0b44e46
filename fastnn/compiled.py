"""A network's training step, or its prediction, in one call of compiled code: `compile`."""

import threading
from typing import Any, overload

import numpy as np
from numpy.typing import ArrayLike

from ._arrays import (
    Array,
    as_batch,
    as_floats,
    as_labels,
    as_labels_unread,
    as_targets,
    check_one_device,
    is_transposed,
    kernels_for,
)
from ._device import is_plain, on_gpu, xp_of
from ._random import random_source
from .layers import Affine, MatMul, MeanSquaredError, Relu, Sigmoid, SoftmaxWithLoss, Tanh
from .optimizer import SGD, Optimizer, has_rule

__all__ = ["CompiledPrediction", "CompiledStep", "compile"]

WHO = "fastnn.compile"
_INTP = np.dtype(np.intp)
_ACTIVATIONS = {Relu: "relu", Sigmoid: "sigmoid", Tanh: "tanh"}
_LOSSES = {SoftmaxWithLoss: "softmax_with_loss", MeanSquaredError: "mean_squared_error"}


def _never(*args: Any) -> bool:
    return False


class CannotCompile(TypeError):
    """A model or an optimizer that `compile` does not cover."""


@overload
def compile(model: Any, optimizer: None = None, max_grad: float | None = None) -> "CompiledPrediction": ...
@overload
def compile(model: Any, optimizer: Optimizer, max_grad: float | None = None) -> "CompiledStep": ...
def compile(model: Any, optimizer: Optimizer | None = None, max_grad: float | None = None) -> Any:
    """Make one compiled call of a network's whole training step, or of its prediction.

    Parameters
    ----------
    model : object
        A fastnn network, or any object of the book's shape: an ordered ``layers`` (list or mapping) of `Affine`,
        `MatMul`, `Relu`, `Sigmoid` and `Tanh`, in any order and number, and a ``loss_layer``, ``last_layer`` or
        ``lastLayer`` that is `SoftmaxWithLoss` or `MeanSquaredError`. Its parameters, all float32 or all float64, stay
        where they are.
    optimizer : Optimizer, optional
        One of `fastnn.optimizer`; its settings are read at each call. Without an optimizer the result predicts.
    max_grad : float, optional
        Scale all gradients down to this joint norm before each update.

    Returns
    -------
    CompiledStep or CompiledPrediction
        ``step(x, t) -> loss``, or ``predict(x) -> scores``. For a model on a GPU that is large, or has other layers or
        another loss of fastnn: `CapturedStep` or `CapturedPrediction` of `fastnn._captured`, which serve likewise.

    Raises
    ------
    TypeError
        For a model or an optimizer that cannot be compiled, saying what stands in the way.

    Examples
    --------
    >>> import fastnn
    >>> from fastnn.dataset import digits
    >>> from fastnn.models import TwoLayerNet
    >>> from fastnn.optimizer import SGD
    >>> (x, t), (x_test, t_test) = digits.load_digits()
    >>> model = TwoLayerNet(64, 50, 10, activation="relu", rng=0)
    >>> step = fastnn.compile(model, SGD(lr=0.5))
    >>> loss = step(x[:100], t[:100])  # one step
    >>> for epoch in range(30):
    ...     losses = step.epoch(x, t, batch_size=50, rng=epoch)  # all steps of an epoch, in one call
    >>> predict = fastnn.compile(model)
    >>> float((predict(x_test).argmax(axis=1) == t_test).mean()) > 0.9
    True
    """
    if optimizer is None and max_grad is not None:
        raise TypeError(f"{WHO}: max_grad needs an optimizer")
    if any(on_gpu(p) for layer in layers_of(model) for p in getattr(layer, "params", ())):
        from . import _captured

        if _captured.is_for(model, training=optimizer is not None):
            if optimizer is None:
                return _captured.CapturedPrediction(model)
            return _captured.CapturedStep(model, optimizer, max_grad)
    return CompiledPrediction(model) if optimizer is None else CompiledStep(model, optimizer, max_grad)


def layers_of(model: Any) -> list[Any]:
    """A model's layers in order."""
    layers = getattr(model, "layers", None)
    if not layers:
        raise CannotCompile(f"{WHO}: the model must have layers; {type(model).__name__} has none")
    return list(layers.values() if hasattr(layers, "values") else layers)


def loss_layer_of(model: Any) -> Any:
    """A model's loss layer, by one of its names; None where it has none."""
    names = ("loss_layer", "last_layer", "lastLayer")
    return next((getattr(model, name) for name in names if hasattr(model, name)), None)


class _Network:
    """The layers of a model as the kernels take them, followed as their arrays are exchanged."""

    def __init__(self, model: Any, optimizer: Optimizer | None) -> None:
        self._layers = layers_of(model)
        for i, layer in enumerate(self._layers):
            if type(layer) not in (Affine, MatMul, *_ACTIVATIONS):
                raise CannotCompile(
                    f"{WHO}: layer {i} of {type(model).__name__} is a {type(layer).__name__}; "
                    "Affine, MatMul, Relu, Sigmoid and Tanh can be compiled"
                )
        self._products = [layer for layer in self._layers if isinstance(layer, MatMul)]
        if not self._products:
            raise CannotCompile(f"{WHO}: {type(model).__name__} has no Affine or MatMul layer")
        self._loss = "softmax_with_loss", 1.0
        if optimizer is not None:
            loss = loss_layer_of(model)
            if type(loss) not in _LOSSES:
                raise CannotCompile(
                    f"{WHO}: the loss_layer of {type(model).__name__} must be SoftmaxWithLoss or MeanSquaredError, "
                    f"got {type(loss).__name__}"
                )
            if getattr(model, "weight_decay_lambda", 0):
                raise CannotCompile(f"{WHO}: {type(model).__name__} with weight_decay_lambda cannot be compiled")
            if isinstance(loss, SoftmaxWithLoss) and loss.options:
                raise CannotCompile(f"{WHO}: SoftmaxWithLoss with {', '.join(loss.options)} cannot be compiled")
            self._loss = _LOSSES[type(loss)], getattr(loss, "factor", 1.0)
        self._optimizer = optimizer or SGD()  # prediction asks for neither
        self.has_labels = self._loss[0] == "softmax_with_loss"
        self._describe()

    def refresh(self) -> None:
        """Take notice of exchanged parameters, and of another state of the optimizer: `plan` is another object then."""
        if self._optimizer.states is not self._states:
            self._describe()
            return
        for layer, W, b in self._watched:
            if layer.params[0] is not W or layer.params[-1] is not b:
                self._describe()
                return

    def _describe(self) -> None:
        params = [p for layer in self._products for p in layer.params]
        grads = [g for layer in self._products for g in layer.grads]
        dtypes = {a.dtype for a in (*params, *grads)}
        if len(dtypes) > 1:
            raise CannotCompile(f"{WHO}: parameters must be of one dtype, got {', '.join(sorted(map(str, dtypes)))}")
        features = None
        for layer in self._products:
            if features not in (None, layer.W.shape[0]):
                raise CannotCompile(f"{WHO}: W of shape {layer.W.shape} follows a layer with {features} outputs")
            features = layer.W.shape[1]
        for i, p in enumerate(params):
            if not (is_plain(p) or (p.ndim == 2 and is_transposed(p))):
                raise CannotCompile(f"{WHO}: a parameter of shape {p.shape} and strides {p.strides} is not contiguous")
            if any(xp_of(p).may_share_memory(p, q) for q in params[:i]):
                raise CannotCompile(f"{WHO}: parameters of shapes {p.shape} share memory")
        self.params, self.dtype = params, params[0].dtype
        self.features, self.classes = self._products[0].W.shape[0], self._products[-1].W.shape[1]
        self.kernels = kernels_for(*params, *grads)
        states = self._optimizer.states_for(params)
        try:
            self.plan = self.kernels.mlp_plan(self._stages(), self._optimizer.rule, states, *self._loss)
        except NotImplementedError:  # of a GPU: `compile` would have taken graphs there
            raise TypeError(
                f"{WHO}: was compiled for the CPU, but the model is there no more; compile it again"
            ) from None
        # Last, so that after an error the next call describes anew.
        self._watched = [(layer, layer.params[0], layer.params[-1]) for layer in self._products]
        self._states = self._optimizer.states

    def _stages(self) -> list[tuple[Any, ...]]:
        stages: list[tuple[Any, ...]] = []
        for layer in self._layers:
            if isinstance(layer, MatMul):
                W, b = (*layer.params, None)[:2]
                dW, db = (*layer.grads, None)[:2]
                stages.append((W, b, dW, db, None))
            elif stages and stages[-1][4] is None:  # an activation is part of the product before it
                stages[-1] = (*stages[-1][:4], _ACTIVATIONS[type(layer)])
            else:
                stages.append((None, None, None, None, _ACTIVATIONS[type(layer)]))
        return stages

    def rows(self, x: ArrayLike) -> tuple[Array, tuple[int, ...]]:
        """x as contiguous samples (N, D) in the network's dtype, and the shape of its batch axes."""
        if (  # just what the kernels take, as it mostly is
            type(x) is np.ndarray is self.kernels.xp.ndarray
            and x.dtype is self.dtype
            and x.flags.carray
            and x.ndim == 2
            and x.shape[1] == self.features
            and len(x) > 0
        ):
            return x, (len(x),)
        rows, lead = self._products[0]._as_rows(as_batch(x, WHO))
        check_one_device(rows, self.params[0])
        return rows if rows.dtype is self.dtype else rows.astype(self.dtype), lead

    def labels(self, t: ArrayLike, lead: tuple[int, ...]) -> Array:
        """Checked labels: class indices (N,) or rows (N, C); or targets (N, C)."""
        return as_labels(t, self._scores(lead), WHO) if self.has_labels else self._targets(t, lead)

    def labels_unread(self, t: ArrayLike, lead: tuple[int, ...]) -> Array:
        """The labels converted; their range, and NaN, are left to the kernel."""
        return as_labels_unread(t, self._scores(lead), WHO) if self.has_labels else self._targets(t, lead)

    def _targets(self, t: ArrayLike, lead: tuple[int, ...]) -> Array:
        return as_targets(t, self._scores(lead), WHO).reshape(-1, self.classes)

    def _scores(self, lead: tuple[int, ...]) -> Array:
        """What labels belong to; it has no memory of its own."""
        xp = self.kernels.xp
        scores: Array = xp.broadcast_to(xp.empty((), self.dtype), (*lead, self.classes))
        return scores


class TrainingStep:
    """What training steps share, by whatever they are done."""

    def __init__(self, optimizer: Optimizer, max_grad: float | None) -> None:
        if not has_rule(optimizer):
            raise CannotCompile(f"{WHO}: the optimizer must be of fastnn.optimizer, got {type(optimizer).__name__}")
        if max_grad is not None and not max_grad > 0:
            raise ValueError(f"{WHO}: max_grad must be positive or None, got {max_grad}")
        self._optimizer = optimizer
        self._max_norm = 0.0 if max_grad is None else float(max_grad)

    def epoch(self, x: ArrayLike, t: ArrayLike, batch_size: int = 32, rng: Any = None) -> Array:
        """All steps of one shuffled epoch.

        Parameters
        ----------
        x, t : array_like
            All samples and their labels, as for a step.
        batch_size : int
            Samples a step; all, where there are fewer. Samples that do not fill a batch sit the epoch out.
        rng : None, int, numpy.random.Generator or RandomState
            Where the order comes from; None is NumPy's global state.

        Returns
        -------
        ndarray
            (N // batch_size,) float64: the mean loss of each step.
        """
        if batch_size < 1:
            raise ValueError(f"{WHO}: batch_size must be at least 1, got {batch_size}")
        rows, labels = self.data(x, t)
        return self.steps(rows, labels, random_source(rng).permutation(len(rows)), min(batch_size, len(rows)))

    def data(self, x: ArrayLike, t: ArrayLike) -> tuple[Array, Array]:
        """Samples and labels, checked and converted once, for `steps`."""
        raise NotImplementedError

    def steps(self, x: Array, labels: Array, order: Array, batch_size: int) -> Array:
        """One step for each whole batch of rows of `x` and `labels`, which are as `data` returns them."""
        raise NotImplementedError


class CompiledStep(TrainingStep):
    """A network's training step in one compiled call; made by `compile`.

    The model's ``params`` and ``grads`` remain the same arrays, with the updated parameters and the step's gradients.
    Results are those of the layers to rounding, and bitwise the same for any number of threads. It has memory of its
    own: different models may train in different threads at once.
    """

    def __init__(self, model: Any, optimizer: Optimizer, max_grad: float | None = None) -> None:
        super().__init__(optimizer, max_grad)
        self._network = _Network(model, optimizer)
        self._train: Any = None
        self._at_once: Any = None
        self._plan: Any = None  # that the workspace is for
        self._batch_size = 0
        self._workspace: Any = None

    def __call__(self, x: ArrayLike, t: ArrayLike) -> Any:
        """Forward, loss, backward and update for one batch.

        Parameters
        ----------
        x : array_like
            (N, D), or what else the first layer takes; computed in the dtype of the parameters.
        t : array_like
            Class indices (N,), or one-hot or soft labels (N, C); for `MeanSquaredError` targets (N, C).

        Returns
        -------
        float
            The mean loss, before the update.

        Raises
        ------
        ValueError, TypeError
            Where x or t do not fit the network; then nothing has changed.
        """
        network, optimizer = self._network, self._optimizer
        network.refresh()
        numbers = optimizer.numbers(1, network.dtype)
        if network.plan is self._plan:
            loss = self._at_once(x, t, numbers, self._max_norm)
            if loss is not False:
                optimizer.iter += 1
                return loss
        rows, lead = network.rows(x)
        labels = self._quick_labels(t, lead)
        self._prepare(len(rows))
        # On a GPU each step has a loss of its own: whoever gets it may read it later.
        losses = self._loss if network.kernels.xp is np else network.kernels.xp.empty(1)
        if not self._run(rows, labels, self._no_indices, len(rows), numbers, self._max_norm, losses):
            self._network.labels(t, lead)  # says what is wrong
        return losses[0]

    def gradient(self, x: ArrayLike, t: ArrayLike) -> Any:
        """The loss of a batch, and its gradients in the model's ``grads``, without an update; otherwise as a step."""
        rows, labels = self.data(x, t)
        return self._steps(rows, labels, np.arange(len(rows)), len(rows), update=False)[0]

    @property
    def params(self) -> list[Array]:
        """The parameters that it trains: the model's own arrays."""
        return list(self._network.params)

    @property
    def dtype(self) -> Any:
        """The dtype in which it computes: that of the parameters."""
        return self._network.dtype

    def data(self, x: ArrayLike, t: ArrayLike) -> tuple[Array, Array]:
        """Samples and labels, checked and converted once, for `steps`."""
        self._network.refresh()
        rows, lead = self._network.rows(x)
        return rows, self._network.labels(t, lead)

    def labels(self, t: ArrayLike, x: Array) -> Array:
        """The labels of samples x, checked and converted once, for `steps`."""
        return self._network.labels(t, x.shape[:1])

    def rows(self, x: Array) -> Array:
        """x as (N, D), where that takes no copy."""
        return x.reshape(len(x), -1) if x.ndim > 2 and x.flags.c_contiguous else x

    def reads(self, x: Array) -> bool:
        """Whether `steps` takes x as it lies."""
        return x.ndim == 2 and x.dtype == self.dtype and is_plain(x)

    def steps(self, x: Array, labels: Array, order: Array, batch_size: int) -> Array:
        """One step for each whole batch of rows of `x` and `labels`, which are as `data` returns them.

        Parameters
        ----------
        x, labels : ndarray
            Samples and labels.
        order : ndarray
            Row numbers, batch by batch.
        batch_size : int
            Samples a step.

        Returns
        -------
        ndarray
            (len(order) // batch_size,) float64: the mean loss of each step.

        Raises
        ------
        ValueError
            Where they are not.
        """
        return self._steps(x, labels, order, batch_size, update=True)

    def _steps(self, x: Array, labels: Array, order: Array, batch_size: int, update: bool) -> Array:
        network = self._network
        network.refresh()
        if not (x.shape == (len(labels), network.features) and x.dtype == network.dtype and is_plain(x)):
            raise ValueError(f"{WHO}: steps needs x and labels as data returns them, got x {x.dtype} {x.shape}")
        check_one_device(x, labels)
        if order.dtype is not _INTP or not order.flags.carray:
            order = np.require(order, np.intp, ["C", "A", "W"])
        if order.size < batch_size or np.maximum.reduce(order.view(np.uintp)) >= len(x):
            raise ValueError(f"{WHO}: order must hold at least {batch_size} rows in [0, {len(x)})")
        self._prepare(batch_size)
        xp = network.kernels.xp
        order, losses = xp.asarray(order), xp.empty(len(order) // batch_size)
        if update:
            numbers, max_norm = self._optimizer.numbers(len(losses), network.dtype), self._max_norm
        else:
            numbers, max_norm = self._no_numbers, 0.0
        if self._run(x, labels, order, batch_size, numbers, max_norm, losses) < len(losses):
            raise ValueError(f"{WHO}: steps needs labels as data returns them, got some out of range or not finite")
        return losses

    def _quick_labels(self, t: ArrayLike, lead: tuple[int, ...]) -> Array:
        """As `labels_unread` of the network."""
        if self._network.has_labels and isinstance(t, np.ndarray) and len(lead) == 1 and self._network.kernels.xp is np:
            if t.shape == lead:
                if t.dtype is _INTP and t.flags.carray:
                    return t
                if t.dtype.kind in "iu":
                    return np.require(t, _INTP, ["C", "A", "W"])
            if t.shape == (*lead, self._network.classes) and t.size > 1:
                rows = as_floats(t, WHO, "t")
                return rows if rows.dtype is self._network.dtype else rows.astype(self._network.dtype)
        return self._network.labels_unread(t, lead)

    def _prepare(self, batch_size: int) -> None:
        """Have what the kernels need besides data, for this plan and batches of this size."""
        network = self._network
        if network.plan is self._plan and batch_size <= self._batch_size:
            return
        k, dtype = network.kernels, network.dtype
        self._plan, self._batch_size = network.plan, max(batch_size, self._batch_size)
        self._workspace = k.mlp_workspace(self._plan, self._batch_size, dtype)
        self._train, self._at_once = k.mlp_train, getattr(self._workspace, "at_once", _never)
        self._loss, self._no_indices = k.xp.empty(1), k.xp.empty(0, np.intp)
        self._no_rows = k.xp.empty((0, 0), dtype)  # of labels
        self._no_numbers = np.empty((0, 0), dtype)  # of the optimizer

    def _run(
        self, x: Array, labels: Array, order: Array, batch_size: int, numbers: Array, max_norm: float, losses: Array
    ) -> Any:
        """How many steps were done: fewer than losses, where a label is wrong."""
        t, t_rows = (labels, self._no_rows) if labels.ndim == 1 else (self._no_indices, labels)
        done = self._train(self._plan, self._workspace, x, t, t_rows, order, batch_size, numbers, max_norm, losses)
        if len(numbers):
            self._optimizer.iter += done
        return done


class _OfThread(threading.local):
    ready: tuple[Any, Any] = (None, None)  # a plan, and the workspace for it


class CompiledPrediction:
    """A network's prediction in one compiled call, always with the model's current weights; made by `compile`.

    May be called from several threads at once.
    """

    def __init__(self, model: Any) -> None:
        self._network = _Network(model, None)
        self._memory = _OfThread()

    def __call__(self, x: ArrayLike, out: Array | None = None, probabilities: bool = False) -> Array:
        """Scores of the classes.

        Parameters
        ----------
        x : array_like
            (N, D), one sample (D,), or what else the first layer takes; computed in the dtype of the parameters.
        out : ndarray, optional
            (N, C) or (C,), contiguous, of the dtype of the parameters: takes the result, and nothing is allocated.
        probabilities : bool
            Their softmax instead.

        Returns
        -------
        ndarray
            (N, C), or (C,) for one sample; `out` if given.

        Raises
        ------
        ValueError, TypeError
            Where x does not fit the network, or out not the result.
        """
        network = self._network
        network.refresh()
        plan, workspace = self._memory.ready
        if plan is network.plan and type(x) is np.ndarray and x.ndim == 2:
            y = np.empty((len(x), network.classes), network.dtype) if out is None else out
            if getattr(workspace, "at_once", _never)(x, y, probabilities):
                return y
        rows, lead = network.rows(x)
        xp = network.kernels.xp
        if out is None:
            out = xp.empty((*lead, network.classes), network.dtype)
        elif not isinstance(out, xp.ndarray) or not (
            out.shape == (*lead, network.classes) and out.dtype == network.dtype and is_plain(out)
        ):
            raise ValueError(
                f"{WHO}: out must be a contiguous {network.dtype} array of shape {(*lead, network.classes)}, got "
                + (f"{out.dtype} {out.shape}" if isinstance(out, xp.ndarray) else type(out).__name__)
            )
        if plan is not network.plan:
            plan = network.plan
            workspace = network.kernels.mlp_predict_workspace(plan, network.dtype)
            self._memory.ready = plan, workspace
        flat = out if len(lead) == 1 else out.reshape(-1, network.classes)
        network.kernels.mlp_predict(plan, workspace, rows, probabilities, flat)
        return out
