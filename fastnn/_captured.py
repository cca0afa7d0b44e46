"""Steps and predictions on a GPU that its one-launch kernel does not cover: the layers' own launches, as CUDA graphs.

See kernels/cuda/mlp.py for that kernel. What may change from step to step lies in the GPU's memory, and is written
before the graph is launched: the batch, the optimizer's numbers, the seeds of dropout. What else it depends on is
compared at each call; where something is not as it was, it is recorded anew.
"""

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from operator import is_
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from . import layers
from ._arrays import Array, Outputs, as_array, as_labels, check_one_device, kernels_for
from ._compilable import WHO, layers_of, loss_layer_of
from ._device import is_plain, on_gpu
from ._recording import Recording
from ._training_step import TrainingStep, as_order
from .errors import CannotCompile
from .layers.layer import Layer
from .layers.loss import Loss
from .models import Network
from .optimizer import Optimizer
from .util import remove_duplicate

# Bytes of parameters up to which all is one launch, where its kernel knows all layers: each multiprocessor then reads
# all of them for each few rows of a batch. A guess: no GPU was there to measure it.
ONE_LAUNCH_UP_TO = 1 << 20

_IN_ONE_LAUNCH = {layers.Affine, layers.MatMul, layers.Relu, layers.Sigmoid}

_MOST_SHAPES = 8  # of batches, whose recordings are kept

_KINDS = {getattr(layers, name) for name in layers.__all__}
_NODES = {layers.AddLayer, layers.MulLayer, layers.Repeat, layers.Sum}
_LOSSES = {kind for kind in _KINDS if issubclass(kind, Loss)}
_LAYERS = _KINDS - _LOSSES - _NODES


def is_for(model: Any, training: bool) -> bool:
    """Whether a model on the GPU is for graphs, not for one launch: the one place where that is decided."""
    own, loss_layer = layers_of(model), loss_layer_of(model)
    return (
        not all(type(layer) in _IN_ONE_LAUNCH for layer in own)
        or sum(p.nbytes for layer in own for p in layer.params) > ONE_LAUNCH_UP_TO
        or (training and (type(loss_layer) is not layers.SoftmaxWithLoss or bool(loss_layer.options)))
        or (training and bool(getattr(model, "weight_decay_lambda", 0)))
    )


class _Captured:
    """What steps and predictions share: a network, and recordings of what it does with batches of some shapes."""

    def __init__(self, model: Any, loss_layer: Layer) -> None:
        own = layers_of(model)
        for i, layer in enumerate(own):
            if type(layer) not in _LAYERS:
                raise CannotCompile(f"{WHO}: layer {i} of {type(model).__name__} is a {type(layer).__name__}")
        self._model = model
        self._network = Network({str(i): layer for i, layer in enumerate(own)}, loss_layer)
        self._layers = [*own, loss_layer]
        self._recordings: dict[Any, tuple[list[Array], Recording]] = {}
        self._recorded: tuple[list[Any], list[Any]] = ([], [])  # what they depend on: arrays, and settings
        self._done: Any = None
        self._lock = threading.Lock()

    @property
    def params(self) -> list[Array]:
        """The parameters: the model's own arrays."""
        return [p for layer in self._layers for p in layer.params]

    @property
    def dtype(self) -> Any:
        """The dtype of the parameters, in which it mostly computes."""
        return self.params[0].dtype

    def _work(self, how: Any, *batch: Array) -> Any:
        """What is recorded; returns an array."""
        raise NotImplementedError

    def _prepare(self) -> None:
        """Have what `_work` needs, for new arrays or settings."""

    def _write(self) -> None:
        """Bring to the GPU what a launch depends on besides the batch."""

    def _arrays(self) -> Iterator[Any]:
        """All arrays that `_work` finds by itself."""
        for layer in self._layers:
            yield from (*layer.params, *layer.grads, *(getattr(layer, name) for name in layer.state_names))

    def _settings(self) -> Iterator[Any]:
        """All numbers that `_work` finds by itself, and that are recorded."""
        for layer in self._layers:
            for name, value in vars(layer).items():
                if isinstance(value, bool | int | float | str | tuple) and name not in ("_saved", "loss"):
                    yield value

    def _refresh(self) -> None:
        """Forget the recordings where what they depend on has changed."""
        arrays, settings = list(self._arrays()), list(self._settings())
        known, known_settings = self._recorded
        if len(arrays) == len(known) and all(map(is_, arrays, known)) and settings == known_settings:
            return
        for p in self.params:
            if not on_gpu(p):
                raise TypeError(f"{WHO}: was compiled for the GPU, but the model is there no more; compile it again")
        self._recordings.clear()
        self._prepare()
        self._recorded = list(self._arrays()), settings

    def _launch(self, how: Any, alike: Sequence[tuple[Any, Any]], fill: Callable[..., Any]) -> Any:
        """Do `_work` on arrays of these shapes and dtypes, into which `fill` writes; returns copies of its results."""
        xp = kernels_for(self.params[0]).xp
        stream = xp.cuda.get_current_stream()
        if self._done is None:
            self._done = xp.cuda.Event()
        stream.wait_event(self._done)  # the last launch may have been on another stream
        key = how, *alike
        batch, recording = self._recordings.get(key) or self._new([xp.empty(*a) for a in alike], how)
        fill(*batch)
        self._write()
        result = recording()
        stream.record(self._done)
        self._recordings[key] = batch, recording
        if len(self._recordings) > _MOST_SHAPES:
            del self._recordings[next(iter(self._recordings))]
        return result

    def _new(self, batch: list[Array], how: Any) -> tuple[list[Array], Recording]:
        return batch, Recording(lambda: self._work(how, *batch))

    def _on_gpu(self, x: ArrayLike, name: str) -> Array:
        array = as_array(x, WHO, name)
        check_one_device(self.params[0], array)
        return array


@contextmanager
def _memory_of_a_recording(own: Sequence[Layer], seeds: Sequence[tuple[Any, Array]] = ()) -> Iterator[None]:
    """Meanwhile layers keep nothing of before, their outputs are new memory, and dropouts find seeds on the GPU."""
    kept = [(layer._outputs, layer._input_grads) for layer in own]
    for layer in own:
        layer._outputs, layer._input_grads, layer._saved = Outputs(), Outputs(), None
        if isinstance(layer, Loss):
            layer.loss = None
    for dropout, seed in seeds:
        dropout.next_seed = lambda seed=seed: seed
    try:
        yield
    finally:
        for layer, (outputs, input_grads) in zip(own, kept, strict=True):
            layer._outputs, layer._input_grads = outputs, input_grads
        for dropout, _ in seeds:
            del dropout.next_seed


class CapturedStep(TrainingStep, _Captured):
    """A network's training step on a GPU, layer by layer, as one launch of a CUDA graph; made by `compile`.

    The model's ``params`` and ``grads`` remain the same arrays, with the updated parameters and the step's gradients.
    Results are bitwise those of the layers. The first step with batches of a new shape is done by the layers, and takes
    longer; recordings for a few shapes are kept.
    """

    def __init__(self, model: Any, optimizer: Optimizer, max_grad: float | None = None) -> None:
        TrainingStep.__init__(self, optimizer, max_grad)
        loss_layer = loss_layer_of(model)
        if type(loss_layer) not in _LOSSES:
            raise CannotCompile(
                f"{WHO}: the loss_layer of {type(model).__name__} must be a loss of fastnn.layers, "
                f"got {type(loss_layer).__name__}"
            )
        _Captured.__init__(self, model, loss_layer)
        self._seeds: list[tuple[Any, Array]] = []
        self._refresh()

    def _arrays(self) -> Iterator[Any]:
        yield from super()._arrays()
        yield self._optimizer.states

    def _settings(self) -> Iterator[Any]:
        yield from super()._settings()
        yield getattr(self._model, "weight_decay_lambda", 0.0)

    def _prepare(self) -> None:
        network, optimizer = self._network, self._optimizer
        network.weight_decay_lambda = getattr(self._model, "weight_decay_lambda", 0.0)
        params, grads = remove_duplicate(self.params, [g for layer in self._layers for g in layer.grads])
        if len({a.dtype for a in (*params, *grads)}) > 1 or not all(map(is_plain, (*params, *grads))):
            raise CannotCompile(f"{WHO}: parameters must be contiguous and of one dtype")
        k = kernels_for(*params, *grads)
        self._plan = k.optimizer_plan(optimizer.rule, params, grads, optimizer.states_for(params))
        self._update, self._xp = k.optimizer_update, k.xp
        dropouts = [layer for layer in self._layers if isinstance(layer, layers.Dropout)]
        self._seeds = [(dropout, k.xp.zeros(1, np.int64)) for dropout in dropouts]
        self._numbers = k.xp.zeros(len(optimizer.numbers(1, self.dtype)[0]), self.dtype)
        self._written = [0.0] * len(self._numbers)

    def _write(self) -> None:
        # As fills, which take a number along: a copy from the host might wait for the GPU.
        numbers = self._optimizer.numbers(1, self.dtype)[0].tolist()
        for i, number in enumerate(numbers):
            if number != self._written[i]:
                self._numbers[i : i + 1].fill(number)
        self._written = numbers
        for dropout, seed in self._seeds:
            seed.fill(dropout.next_seed())

    def _work(self, how: Any, *batch: Array) -> Any:
        x, t = batch
        with _memory_of_a_recording(self._layers, self._seeds):
            loss = self._network.forward(x, t)
            self._network.backward(input_gradient=False)
            remove_duplicate(self.params, [g for layer in self._layers for g in layer.grads])
            self._update(self._plan, self._numbers, self._max_norm)
        return loss

    def _step(self, alike: Sequence[tuple[Any, Any]], fill: Callable[..., Any]) -> Any:
        with self._lock:
            loss = self._launch(None, alike, fill)
            self._optimizer.iter += 1
        return loss

    def __call__(self, x: ArrayLike, t: ArrayLike) -> Any:
        """Forward, loss, backward and update for one batch: arrays that its layers and its loss take, on the GPU.

        Returns
        -------
        ndarray
            The mean loss, before the update: a CuPy array without axes.
        """
        self._refresh()
        data, labels = self._on_gpu(x, "x"), self._on_gpu(t, "t")

        def fill(own_x: Array, own_t: Array) -> None:
            own_x[...], own_t[...] = data, labels

        return self._step(((data.shape, data.dtype), (labels.shape, labels.dtype)), fill)

    def gradient(self, x: ArrayLike, t: ArrayLike) -> Any:
        """The loss of a batch, and its gradients in the model's ``grads``, without an update: by the layers."""
        self._refresh()
        loss = self._network.forward(x, t)
        self._network.backward(input_gradient=False)
        return loss

    def data(self, x: ArrayLike, t: ArrayLike) -> tuple[Array, Array]:
        """Samples and labels on the GPU, the labels checked, for `steps`."""
        self._refresh()
        data = self._on_gpu(x, "x")
        return data, self.labels(t, data)

    def labels(self, t: ArrayLike, x: Array) -> Array:
        """The labels of samples x, checked once, for `steps`."""
        if not isinstance(self._network.loss_layer, layers.SoftmaxWithLoss):
            return self._on_gpu(t, "t")
        scores = self._network.predict(x[:1])
        like_all = kernels_for(scores).xp.broadcast_to(scores[:1], (len(x), *scores.shape[1:]))
        if "ignore_index" in self._network.loss_layer.options:
            labels = self._on_gpu(t, "t").astype(np.intp)
            self._network.loss_layer.check_labels(labels, scores.shape[-1])
            return labels
        return as_labels(t, like_all, WHO)

    def rows(self, x: Array) -> Array:
        """x itself: layers take images as they are."""
        return x

    def reads(self, x: Array) -> bool:
        """Whether `steps` takes x as it lies."""
        return on_gpu(x)

    def steps(self, x: Array, labels: Array, order: Array, batch_size: int) -> Array:
        """One step for each whole batch of rows of `x` and `labels`; arguments as of `CompiledStep.steps`.

        Returns
        -------
        ndarray
            (len(order) // batch_size,) float64: the mean loss of each step.

        Raises
        ------
        ValueError
            For an order that is no rows of x.
        """
        self._refresh()
        order = as_order(order)
        if order.size < batch_size or order.min() < 0 or order.max() >= len(x):
            raise ValueError(f"{WHO}: order must hold at least {batch_size} rows in [0, {len(x)})")
        alike = [((batch_size, *a.shape[1:]), a.dtype) for a in (x, labels)]
        order_there, losses = self._xp.asarray(order), self._xp.empty(len(order) // batch_size)
        for i in range(len(losses)):
            rows = order_there[i * batch_size : (i + 1) * batch_size]

            def fill(own_x: Array, own_t: Array, rows: Array = rows) -> None:
                x.take(rows, axis=0, out=own_x)
                labels.take(rows, axis=0, out=own_t)

            losses[i] = self._step(alike, fill)
        return losses


class CapturedPrediction(_Captured):
    """A network's prediction on a GPU, layer by layer, as one launch of a CUDA graph; made by `compile`."""

    def __init__(self, model: Any) -> None:
        super().__init__(model, layers.SoftmaxWithLoss())

    def _work(self, how: Any, *batch: Array) -> Any:
        with _memory_of_a_recording(self._layers):
            y = self._network.predict(batch[0])
            if how == "probabilities":
                scores, y = y, kernels_for(y).xp.empty_like(y)
                C = y.shape[-1]
                kernels_for(y).softmax_forward(scores.reshape(-1, C), y.reshape(-1, C))
        return y

    def __call__(self, x: ArrayLike, out: Array | None = None, probabilities: bool = False) -> Array:
        """Scores of the classes, or their softmax; arguments as of `CompiledPrediction`.

        Returns
        -------
        ndarray
            What the last layer gives; `out` if given.
        """
        self._refresh()
        data = self._on_gpu(x, "x")

        def fill(own: Array) -> None:
            own[...] = data

        with self._lock:
            y = self._launch("probabilities" if probabilities else "scores", [(data.shape, data.dtype)], fill)
        if out is None:
            return y
        if type(out) is not type(y) or (out.shape, out.dtype) != (y.shape, y.dtype):
            got = f"{out.dtype} {out.shape}" if type(out) is type(y) else type(out).__name__
            raise ValueError(f"{WHO}: out must be a {y.dtype} array of shape {y.shape} on the GPU, got {got}")
        out[...] = y
        return out
