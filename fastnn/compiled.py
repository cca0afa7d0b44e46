"""A network's training step, or its prediction, in one call of compiled code: `compile`."""

import threading
from typing import Any, NamedTuple, overload

import numpy as np
from numpy.typing import ArrayLike

from ._arrays import Array, as_floats
from ._compilable import WHO, CompilableNetwork, layers_of
from ._device import is_plain, on_gpu
from ._training_step import TrainingStep, as_order, check_count
from .optimizer import Optimizer

__all__ = ["CompiledPrediction", "CompiledStep", "compile"]

_INTP = np.dtype(np.intp)


def _never(*args: Any) -> bool:
    return False


def _describe(a: Any) -> str:
    return f"{a.dtype} {a.shape}" if hasattr(a, "dtype") else type(a).__name__


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


class _Ready(NamedTuple):
    """What the kernels need besides data, for a plan and batches up to a size: one object, as other threads see it."""

    plan: Any = None
    batch_size: int = 0
    workspace: Any = None
    at_once: Any = _never
    loss: Any = None
    no_indices: Any = None
    no_rows: Any = None  # of labels


class CompiledStep(TrainingStep):
    """A network's training step in one compiled call; made by `compile`.

    The model's ``params`` and ``grads`` remain the same arrays, with the updated parameters and the step's gradients.
    Results are those of the layers to rounding, and bitwise the same for any number of threads. It has memory of its
    own: different models may train in different threads at once.
    """

    def __init__(self, model: Any, optimizer: Optimizer, max_grad: float | None = None) -> None:
        super().__init__(optimizer, max_grad)
        self._model, self._network = model, CompilableNetwork(model, optimizer)
        self._ready = _Ready()

    def __reduce__(self) -> tuple[Any, ...]:
        # What it has prepared holds addresses: a copy prepares its own, of a copy of the model.
        return compile, (self._model, self._optimizer, self._max_norm or None)

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
        ready = self._ready
        if network.plan is ready.plan:
            loss = ready.at_once(x, t, numbers, self._max_norm)
            if loss is not False:
                optimizer.iter += 1
                return loss
        rows, lead = network.rows(x)
        labels = self._quick_labels(t, lead)
        ready = self._prepare(len(rows))
        # On a GPU each step has a loss of its own: whoever gets it may read it later.
        losses = ready.loss if network.kernels.xp is np else network.kernels.xp.empty(1)
        if not self._run(ready, rows, labels, ready.no_indices, len(rows), numbers, self._max_norm, losses):
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
        batch_size = check_count(WHO, "batch_size", batch_size, 1)
        if not self._are_data(x, labels):
            got = f"got x {_describe(x)} and labels {_describe(labels)}"
            raise ValueError(f"{WHO}: steps needs x and labels as data returns them, {got}")
        if not (type(order) is np.ndarray and order.dtype is _INTP and order.flags.carray):
            order = as_order(order)
        if order.ndim != 1 or order.size < batch_size or np.maximum.reduce(order.view(np.uintp)) >= len(x):
            raise ValueError(f"{WHO}: order must hold at least {batch_size} rows in [0, {len(x)})")
        ready = self._prepare(batch_size)
        xp = network.kernels.xp
        order, losses = xp.asarray(order), xp.empty(len(order) // batch_size)
        if update:
            numbers, max_norm = self._optimizer.numbers(len(losses), network.dtype), self._max_norm
        else:
            numbers, max_norm = np.empty((0, 0), network.dtype), 0.0
        if self._run(ready, x, labels, order, batch_size, numbers, max_norm, losses) < len(losses):
            raise ValueError(f"{WHO}: steps needs labels as data returns them, got some out of range or not finite")
        return losses

    def _are_data(self, x: Any, labels: Any) -> bool:
        """Whether they are as `data` returns them."""
        network = self._network
        if not all(isinstance(a, network.kernels.xp.ndarray) and is_plain(a) for a in (x, labels)):
            return False
        if x.dtype != network.dtype or x.shape != (len(x), network.features):
            return False
        if network.has_labels and labels.dtype == _INTP:
            return labels.shape == x.shape[:1]
        return labels.dtype == network.dtype and labels.shape == (len(x), network.classes)

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

    def _prepare(self, batch_size: int) -> _Ready:
        """What the kernels need for the present plan and batches of this size."""
        network, ready = self._network, self._ready
        if network.plan is not ready.plan or batch_size > ready.batch_size:
            k, dtype, plan, batch_size = network.kernels, network.dtype, network.plan, max(batch_size, ready.batch_size)
            workspace = k.mlp_workspace(plan, batch_size, dtype)
            at_once = getattr(workspace, "at_once", _never)
            nothing = k.xp.empty(0, np.intp), k.xp.empty((0, 0), dtype)
            self._ready = ready = _Ready(plan, batch_size, workspace, at_once, k.xp.empty(1), *nothing)
        return ready

    def _run(
        self,
        ready: _Ready,
        x: Array,
        labels: Array,
        order: Array,
        batch_size: int,
        numbers: Array,
        max_norm: float,
        losses: Array,
    ) -> Any:
        """How many steps were done: fewer than losses, where a label is wrong."""
        t, t_rows = (labels, ready.no_rows) if labels.ndim == 1 else (ready.no_indices, labels)
        train, workspace = self._network.kernels.mlp_train, ready.workspace
        done = train(ready.plan, workspace, x, t, t_rows, order, batch_size, numbers, max_norm, losses)
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
        self._model, self._network = model, CompilableNetwork(model, None)
        self._memory = _OfThread()
        self._latest: tuple[Any, Any] = (None, _never)  # a workspace, of some thread that called, and its `at_once`

    def __reduce__(self) -> tuple[Any, ...]:
        return compile, (self._model,)  # as of a step

    def __call__(self, x: ArrayLike, out: Array | None = None, probabilities: bool = False) -> Array:
        """Scores of the classes.

        Parameters
        ----------
        x : array_like
            (N, D), one sample (D,), or what else the first layer takes; computed in the dtype of the parameters.
        out : ndarray, optional
            (N, C) or (C,), contiguous, of the dtype of the parameters, apart from x: takes the result, and nothing is
            allocated.
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
        network, y = self._network, out
        if y is None and type(x) is np.ndarray and x.ndim == 2:
            y = np.empty((len(x), network.classes), network.dtype)
        # This does nothing in another thread than the workspace's, or once parameters were exchanged.
        workspace, at_once = self._latest
        if y is not None and at_once(x, y, probabilities):
            return y
        network.refresh()
        rows, lead = network.rows(x)
        xp = network.kernels.xp
        if out is None:
            out = xp.empty((*lead, network.classes), network.dtype)
        elif not isinstance(out, xp.ndarray) or not (
            out.shape == (*lead, network.classes) and out.dtype == network.dtype and is_plain(out)
        ):
            raise ValueError(
                f"{WHO}: out must be a contiguous {network.dtype} array of shape {(*lead, network.classes)}, "
                f"got {_describe(out)}"
            )
        elif xp.may_share_memory(rows, out):
            raise ValueError(f"{WHO}: out must not overlap x, got one that does")
        plan, workspace = self._memory.ready
        if plan is not network.plan:
            plan = network.plan
            workspace = network.kernels.mlp_predict_workspace(plan, network.dtype, network.products)
            self._memory.ready = plan, workspace
        self._latest = workspace, getattr(workspace, "at_once", _never)
        flat = out if len(lead) == 1 else out.reshape(-1, network.classes)
        network.kernels.mlp_predict(plan, workspace, rows, probabilities, flat)
        return out
