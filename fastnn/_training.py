"""What the trainers share: the loop over epochs with its lines, bar and Ctrl-C, and the checks of `fit`'s arguments."""

from __future__ import annotations

import copy
import functools
import operator
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, Protocol

import numpy as np

from ._arrays import Array, as_array
from ._checkpoint import (
    Checkpoint,
    Progress,
    check_alike,
    generator_state,
    layer_arrays,
    layer_generators,
    pack,
    set_generator_state,
    unpack,
)
from ._device import to_cpu, xp_of
from ._training_step import check_count
from .layers import SoftmaxWithLoss
from .layers.layer import can_skip_input_gradient
from .optimizer import has_rule
from .serialize import check_destination, load_arrays, save_arrays
from .util import clip_grads, remove_duplicate


class Model(Protocol):
    """What a trainer asks of a model. `accuracy(x, t)` is needed only for validation data.

    `params` and `grads` are lists of arrays, or containers that slice to lists.
    """

    params: Any
    grads: Any

    def forward(self, x: Any, t: Any) -> Any:
        """Return the loss of the mini-batch."""

    def backward(self) -> Any:
        """Write the gradients of that loss into `grads`; with ``input_gradient=False`` only those, if it knows that."""


class Optimizer(Protocol):
    """What a trainer asks of an optimizer. For checkpoints `state` and `load_state` as well, see `fastnn.optimizer`."""

    def update(self, params: Any, grads: Any) -> None:
        """Change params in place."""


class TrainingLoop:
    """What the two trainers share: the loop over epochs, the lines, the bar, Ctrl-C."""

    _score_name = "loss"
    _lists: tuple[str, ...] = ()  # attributes that a checkpoint keeps
    _counts: tuple[str, ...] = ("current_epoch",)

    def __init__(self, model: Model, optimizer: Optimizer) -> None:
        self.model = model
        self.optimizer = optimizer
        self.eval_interval: int | None = None
        self.current_epoch = 0
        self.interrupted = False
        self._progress = Progress()  # of the latest fit
        self._resuming: Checkpoint | None = None  # what the next fit goes on from
        self._order: Array = np.arange(0)
        self._rng: Any = None
        self._backward_options: dict[str, bool] = {}
        self._ctrl_c = CtrlC()

    def _step(self, x: Any, t: Any, max_grad: float | None) -> Any:
        """Do one iteration (loss, gradients, update) and return the loss.

        The only place where a trainer touches the model's parameters.
        """
        model = self.model
        loss = model.forward(x, t)
        model.backward(**self._backward_options)
        params, grads = remove_duplicate(model.params, model.grads)
        options = {}
        if max_grad is not None:
            if has_rule(self.optimizer):  # clips in the same call
                options = {"max_grad": max_grad}
            else:
                clip_grads(grads, max_grad)
        self._ctrl_c.hold()  # from here to the bookkeeping: all of the update or nothing
        self.optimizer.update(params, grads, **options)
        return loss

    def _record(self, mean_loss: float) -> float:
        """Keep the score of an interval and return it for the line."""
        raise NotImplementedError

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write a checkpoint for `resume`: parameters, optimizer, generator, lists, and where `fit` stands.

        Parameters
        ----------
        path : path-like
            ``.safetensors`` or ``.npz``. The file that is there is replaced only when the new one is complete.

        Raises
        ------
        TypeError
            The optimizer has no ``state`` and ``load_state``.
        ValueError
            Another extension.
        """
        self._check_destination(path)
        optimizer: Any = self.optimizer
        arrays = {f"param.{i}": p for i, p in enumerate(self.model.params[:])}
        arrays |= {f"layer.{name}": a for name, a in layer_arrays(self.model).items()}
        arrays |= {f"optimizer.{name}": value for name, value in optimizer.state().items()}
        arrays |= {f"list.{name}": np.array(getattr(self, name), np.float64) for name in self._lists}
        arrays["order"] = self._order
        arrays = {name: to_cpu(a) for name, a in arrays.items()}
        values = {
            "progress": vars(self._progress),
            "counts": {name: getattr(self, name) for name in self._counts},
            "rng": None if self._rng is None else generator_state(self._rng),
            "layer_rngs": {name: generator_state(rng) for name, rng in layer_generators(self.model).items()},
        }
        save_arrays(path, pack(arrays, values), dtype=None)

    def _check_destination(self, path: str | os.PathLike[str]) -> None:
        """Raise what `save` would."""
        if not hasattr(self.optimizer, "state"):
            who = f"{type(self).__name__}.save"
            raise TypeError(
                f"{who}: the optimizer must have state and load_state; {type(self.optimizer).__name__} has none"
            )
        check_destination(path)

    def resume(self, path: str | os.PathLike[str]) -> None:
        """Go back to where a checkpoint was written; `fit`, called as it was then, does what was left to do.

        The result is, bit for bit, that of training without a break: on the same kind of CPU, with the same version of
        fastnn, data and arguments.

        Parameters
        ----------
        path : path-like
            What `save` wrote, or `fit` with ``checkpoint``; for a model and an optimizer like those of then.

        Raises
        ------
        FileFormatError
            The file is damaged, or no checkpoint.
        ValueError
            The checkpoint does not fit the model or the optimizer; then nothing has changed.
        """
        checkpoint = unpack(load_arrays(path), self._lists, self._counts, path)
        params = {str(i): p for i, p in enumerate(self.model.params[:])}
        arrays, generators = layer_arrays(self.model), layer_generators(self.model)
        check_alike(path, "parameter", params, checkpoint.params)
        check_alike(path, "array", arrays, checkpoint.layers)
        if generators.keys() != checkpoint.layer_rngs.keys():
            names = f"layers {list(generators)}, got {list(checkpoint.layer_rngs)}"
            raise ValueError(f"{os.fspath(path)!r}: the checkpoint must have the generators of {names}")
        optimizer: Any = self.optimizer
        if has_rule(optimizer):  # whether its state fits the parameters, too
            trial = copy.copy(optimizer)
            trial.load_state(checkpoint.optimizer)
            trial.states_for(remove_duplicate(self.model.params, self.model.grads)[0])
        optimizer.load_state(checkpoint.optimizer)
        for name, rng in generators.items():
            set_generator_state(rng, checkpoint.layer_rngs[name])
        for live, saved in ((params, checkpoint.params), (arrays, checkpoint.layers)):
            for name, a in live.items():
                a[...] = xp_of(a).asarray(saved[name])
        for name, a in checkpoint.lists.items():
            setattr(self, name, a.tolist())
        vars(self).update(checkpoint.counts)
        self._resuming = checkpoint

    def _begin(self, rng: Any = None, data_size: int = 0) -> bool:
        """Set `_progress`, `_order` and the generator to where a fit begins, or goes on (then True)."""
        checkpoint, self._rng = self._resuming, rng
        if checkpoint is None or checkpoint.progress == Progress():
            self._resuming, self._progress, self._order = None, Progress(), np.arange(data_size)
            return False
        if len(checkpoint.order) != data_size:
            raise ValueError(f"resume: the checkpoint is of {len(checkpoint.order)} samples, got {data_size}")
        if rng is not None:
            set_generator_state(rng, checkpoint.rng)
        self._resuming, self._progress, self._order = None, checkpoint.progress, checkpoint.order
        return True

    def _steps(self, batches: Iterator[tuple[Any, Any]], max_grad: float | None) -> Iterator[list[Any]]:
        """One iteration for each mini-batch; yields its loss, in a list."""
        for x, t in batches:
            yield [self._step(x, t, max_grad)]
            self._ctrl_c.release()

    def _run(
        self,
        epoch: Callable[[], Iterator[Any]],
        max_epoch: int,
        max_iters: int,
        eval_interval: int | None,
        verbose: bool | int,
        progress: bool | None,
        end_epoch: Callable[[], str | None] = lambda: None,
        checkpoint: Any = None,
        checkpoint_every: int | None = None,
    ) -> None:
        """Train for max_epoch epochs.

        ``epoch()`` does the iterations of one that are left after `_progress.iteration`, and yields the losses of one
        or more at a time, in a list or in an array on the GPU: never beyond an iteration after which the mean loss is
        kept, or a checkpoint written. From an update until its losses are counted here it holds Ctrl-C back.
        """
        self.eval_interval = eval_interval
        self.interrupted = False
        self._backward_options = {"input_gradient": False} if can_skip_input_gradient(self.model) else {}
        at = self._progress
        if progress is None:
            progress = bool(verbose) and sys.stderr is not None and sys.stderr.isatty()
        start_time = time.time()
        with Output(progress, max_epoch * max_iters) as output, self._ctrl_c:
            try:
                if progress:
                    output.advance(at.epoch * max_iters + at.iteration)
                while at.epoch < max_epoch:
                    if progress:
                        output.describe(self.current_epoch + 1)
                    said = eval_interval is None  # an epoch whose lines verbose=n left out ends without one as well
                    for losses in epoch():
                        if isinstance(losses, list):
                            at.total_loss = functools.reduce(operator.add, losses, at.total_loss)
                        else:  # on a GPU: nothing is waited for
                            at.total_loss = at.total_loss + losses.sum()
                        at.loss_count += len(losses)
                        at.iteration += len(losses)
                        if eval_interval is not None and (at.iteration - 1) % eval_interval == 0:
                            score = self._record(float(at.total_loss / at.loss_count))
                            at.total_loss, at.loss_count = 0.0, 0
                            at.evaluations += 1
                            if progress:
                                output.score(self._score_name, score)
                            if verbose and (at.evaluations == 1 or at.evaluations % verbose == 0):
                                said = True
                                elapsed_time = int(time.time() - start_time)
                                output.line(
                                    f"| epoch {self.current_epoch + 1} |  iter {at.iteration} / {max_iters} "
                                    f"| time {elapsed_time}[s] | {self._score_name} {score:.2f}"
                                )
                        if checkpoint_every and (at.epoch * max_iters + at.iteration) % checkpoint_every == 0:
                            self.save(checkpoint)
                        if progress:
                            output.advance(len(losses))
                    line = end_epoch()
                    self.current_epoch += 1
                    at.epoch, at.iteration = at.epoch + 1, 0
                    if line and verbose and said:
                        output.line(f"| epoch {self.current_epoch} |  {line}")
                self._progress = Progress()
            except KeyboardInterrupt:
                self.interrupted = True
                output.line(
                    f"| stopped by Ctrl-C in epoch {self.current_epoch + 1} after iter {at.iteration} / {max_iters}; "
                    "the model keeps what it has learned"
                )


class CtrlC:
    """Holds Ctrl-C back while parameters are being written.

    Acts only where Python's own handler is in place (main thread, nobody else's handler).
    """

    def __init__(self) -> None:
        self._held = self._pending = self._installed = False

    def __enter__(self) -> CtrlC:
        self._held = self._pending = False
        self._installed = (
            threading.current_thread() is threading.main_thread()
            and signal.getsignal(signal.SIGINT) is signal.default_int_handler
        )
        if self._installed:
            signal.signal(signal.SIGINT, self._handle)
        return self

    def __exit__(self, *exc_info: object) -> None:
        if self._installed:
            signal.signal(signal.SIGINT, signal.default_int_handler)

    def _handle(self, signum: int, frame: object) -> None:
        if self._held and not self._pending:
            self._pending = True
        else:
            raise KeyboardInterrupt

    def hold(self) -> None:
        self._held = True

    def release(self) -> None:
        self._held = False
        if self._pending:
            self._pending = False
            raise KeyboardInterrupt


class Output:
    """Lines on stdout, and a tqdm bar on stderr that they do not tear."""

    def __init__(self, progress: bool, total: int) -> None:
        self._bar: Any = None
        if progress:
            from tqdm.auto import tqdm

            self._bar = tqdm(total=total, unit="batch", dynamic_ncols=True)

    def __enter__(self) -> Output:
        return self

    def __exit__(self, *exc_info: object) -> None:
        if self._bar is not None:
            self._bar.close()

    # Called only where there is a bar: three calls for nothing took a tenth of what Python does for an epoch.

    def describe(self, epoch: int) -> None:
        self._bar.set_description(f"epoch {epoch}", refresh=False)

    def score(self, name: str, value: float) -> None:
        self._bar.set_postfix_str(f"{name} {value:.2f}", refresh=False)

    def advance(self, iters: int) -> None:
        self._bar.update(iters)

    def line(self, text: str) -> None:
        if self._bar is not None:
            self._bar.write(text)
        else:
            print(text, flush=True)


def check_data(where: str, x_name: str, x: Any, t_name: str, t: Any) -> tuple[Any, Any]:
    x, t = as_array(x, where, x_name), as_array(t, where, t_name)
    for name, a in ((x_name, x), (t_name, t)):
        if a.ndim == 0:
            raise ValueError(f"{where}: {name} must be an array with one row per sample, got {a!r}")
    if len(x) != len(t):
        raise ValueError(f"{where}: {t_name} must have as many rows as {x_name}, {len(x)}, got {len(t)}")
    if len(x) == 0:
        raise ValueError(f"{where}: {x_name} must have at least one row, got shape {x.shape}")
    return x, t


def check_counts(where: str, max_epoch: Any, batch_size: Any, eval_interval: Any) -> tuple[int, int, int | None]:
    if eval_interval is not None:
        eval_interval = check_count(where, "eval_interval", eval_interval, 1)
    max_epoch = check_count(where, "max_epoch", max_epoch, 0)
    return max_epoch, check_count(where, "batch_size", batch_size, 1), eval_interval


def check_max_grad(where: str, max_grad: Any) -> None:
    if max_grad is not None and not max_grad > 0:
        raise ValueError(f"{where}: max_grad must be a positive number or None, got {max_grad!r}")


def check_model(where: str, model: Any, optimizer: Any) -> None:
    for what, thing, names in (
        ("model", model, ("forward", "backward", "params", "grads")),
        ("optimizer", optimizer, ("update",)),
    ):
        for name in names:
            if not hasattr(thing, name):
                lack = f"{type(thing).__name__} has no {name}"
                raise TypeError(f"{where}: the {what} must have {', '.join(names)}; {lack}")


def check_validation(where: str, validation: Any, model: Any) -> tuple[Any, Any]:
    if not isinstance(validation, (tuple, list)) or len(validation) != 2:
        raise ValueError(f"{where}: validation must be a pair (x, t), got {type(validation).__name__}")
    if not hasattr(model, "accuracy"):
        raise TypeError(f"{where}: validation needs a model with accuracy(x, t); {type(model).__name__} has none")
    return check_data(where, "validation x", validation[0], "validation t", validation[1])


def check_labels_on_gpu(model: Any, x: Any, t: Any) -> None:
    """Raise ValueError for labels out of range, once for all steps, none of which waits to find out."""
    loss_layer = getattr(model, "loss_layer", None)
    if isinstance(loss_layer, SoftmaxWithLoss) and t.dtype.kind in "iu" and t.ndim == 1 and hasattr(model, "predict"):
        loss_layer.check_labels(t.astype(np.intp), model.predict(x[:1]).shape[-1])
