"""Training loops with the interface of the book: `Trainer` for mini-batches, `RnnlmTrainer` for sequences.

Source: Deep Learning from Scratch 2, chapters 1.4.4 (Trainer), 5.5.4 (RnnlmTrainer) and 6.1.5 (max_grad).
Any model with ``forward(x, t) -> loss``, ``backward()``, ``params`` and ``grads`` can be trained, any object with
``update(params, grads)`` can be the optimizer.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from ._arrays import Array
from ._compiled_training import CompiledTraining
from ._device import on_gpu, xp_of
from ._random import random_source, shuffles
from ._training import (
    Model,
    Optimizer,
    TrainingLoop,
    as_array,
    check_count,
    check_counts,
    check_data,
    check_labels_on_gpu,
    check_max_grad,
    check_model,
    check_validation,
)
from .util import remove_duplicate  # the book's scripts import it from here

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from numpy.typing import ArrayLike

__all__ = ["RnnlmTrainer", "Trainer", "remove_duplicate"]

Rng = np.random.Generator | np.random.RandomState | int | None


class Trainer(TrainingLoop):
    """Mini-batch training.

    Parameters
    ----------
    model : Model
        Has ``forward(x, t) -> loss``, ``backward()``, ``params`` and ``grads``.
    optimizer : Optimizer
        Has ``update(params, grads)``, e.g. `fastnn.optimizer.SGD`.
    compiled : bool
        Train by `fastnn.compile` where it covers the model and the optimizer, which the logger ``fastnn`` says at debug
        level; otherwise, or if False, layer by layer. The results are the same to rounding.

    Attributes
    ----------
    loss_list : list of float
        Mean loss of every ``eval_interval`` iterations, over all calls of `fit`.
    accuracy_list : list of float
        ``model.accuracy`` of the validation data after every epoch, when `fit` got validation data.
    current_epoch : int
        Epochs completed so far; a second `fit` goes on counting from here.
    eval_interval : int or None
        The one of the latest `fit`.
    interrupted : bool
        True when the latest `fit` was stopped by Ctrl-C.

    Notes
    -----
    Source: Deep Learning from Scratch 2, chapter 1.4.4.

    Examples
    --------
    >>> import numpy as np
    >>> from fastnn.models import TwoLayerNet
    >>> from fastnn.optimizer import SGD
    >>> x = np.array([[0.0, 1.0], [1.0, 0.0]] * 10, dtype="float32")
    >>> t = np.array([0, 1] * 10)
    >>> trainer = Trainer(TwoLayerNet(2, 3, 2, rng=0), SGD(lr=1.0))
    >>> trainer.fit(x, t, max_epoch=2, batch_size=10, eval_interval=1, verbose=False, rng=0)
    >>> len(trainer.loss_list), trainer.current_epoch
    (4, 2)
    """

    _lists = ("loss_list", "accuracy_list")

    def __init__(self, model: Model, optimizer: Optimizer, compiled: bool = True) -> None:
        super().__init__(model, optimizer)
        self.compiled = compiled
        self.loss_list: list[float] = []
        self.accuracy_list: list[float] = []

    def fit(
        self,
        x: ArrayLike,
        t: ArrayLike,
        max_epoch: int = 10,
        batch_size: int = 32,
        max_grad: float | None = None,
        eval_interval: int | None = 20,
        verbose: bool | int = True,
        progress: bool | None = None,
        validation: tuple[ArrayLike, ArrayLike] | None = None,
        rng: Rng = None,
        checkpoint: str | os.PathLike[str] | None = None,
        checkpoint_every: int | None = None,
    ) -> None:
        """Train the model on (x, t), shuffled anew in every epoch.

        Parameters
        ----------
        x : (N, ...) array
            Inputs, one per row.
        t : (N, ...) array
            Labels, one per row.
        max_epoch : int
            Passes over the data. Each is ``N // batch_size`` iterations (at least one); as in the book, the rows that
            do not fill a mini-batch sit that epoch out.
        batch_size : int
            Rows in a mini-batch; all of them if there are fewer.
        max_grad : float, optional
            Gradients are scaled down to this joint L2 norm.
        eval_interval : int or None
            Every so many iterations the mean loss is kept and a line printed; None for never.
        verbose : bool or int
            False prints nothing; an integer n prints only the first and every n-th line of losses, and the accuracy of
            only the epochs that these fall in.
        progress : bool, optional
            Show a progress bar on stderr. None shows one if ``verbose`` and stderr is a terminal.
        validation : (x, t), optional
            Data whose accuracy is measured after every epoch.
        rng : numpy.random.Generator or RandomState or int, optional
            Where the order comes from; an int seeds a Generator. None takes NumPy's global state, so that a script
            that calls ``np.random.seed`` sees the order that it would see with the book's code.
        checkpoint : path-like, optional
            Where `save` is called; ``.safetensors`` or ``.npz``.
        checkpoint_every : int, optional
            After how many iterations each.

        Raises
        ------
        ValueError, TypeError
            One line that names the argument, what was expected and what was received.

        Notes
        -----
        Ctrl-C ends the training, not the program: the iteration's update is either done or not begun, one line tells
        where it stopped, and `fit` returns. Press it twice to break off in the midst of an update.

        Each mini-batch is gathered into the same two buffers: a model that wants to keep its input beyond the
        iteration must copy it.
        """
        where = "Trainer.fit"
        data, labels = check_data(where, "x", x, "t", t)
        max_epoch, batch_size, eval_interval = check_counts(where, max_epoch, batch_size, eval_interval)
        check_max_grad(where, max_grad)
        check_model(where, self.model, self.optimizer)
        held_out = None if validation is None else check_validation(where, validation, self.model)
        if (checkpoint is None) != (checkpoint_every is None):
            raise TypeError(f"{where}: checkpoint and checkpoint_every need each other")
        if checkpoint is not None:
            self._check_destination(checkpoint)
            checkpoint_every = check_count(where, "checkpoint_every", checkpoint_every, 1)
        data_size = len(data)
        batch_size = min(batch_size, data_size)
        max_iters = data_size // batch_size
        self._begin(random_source(rng, where), data_size)
        at = self._progress
        fast = CompiledTraining.of(self.model, self.optimizer, max_grad, data, labels) if self.compiled else None
        if fast is None:
            if on_gpu(data):
                check_labels_on_gpu(self.model, data, labels)
            take_x, take_t = _row_taker(data, batch_size), _row_taker(labels, batch_size)

        # Of the iterations that `_order` is for: how many were begun.
        taken = at.iteration or max_iters

        def next_rows(count: int) -> Array:
            """The rows of so many iterations: each epoch's are shuffled when its first are asked for."""
            # The book shuffles the data set itself, x = x[idx], so that permutations compound. Permuting the row
            # numbers instead yields the same mini-batches without copying the data set in every epoch.
            nonlocal taken
            begin, end = taken * batch_size, (taken + count) * batch_size
            taken = (taken + count - 1) % max_iters + 1
            if end <= max_iters * batch_size:
                return self._order[begin:end]
            orders = np.empty((-(-end // (max_iters * batch_size)), data_size), np.intp)
            orders[0] = self._order
            shuffles(self._rng, orders)
            self._order = orders[-1]
            return orders[:, : max_iters * batch_size].ravel()[begin:end]

        def epoch() -> Iterator[Any]:
            if fast is not None:
                return fast.steps(at, max_iters, next_rows, batch_size, until_stop, eval_interval, self._ctrl_c)
            left = max_iters - at.iteration
            starts, order = range(0, left * batch_size, batch_size), xp_of(data).asarray(next_rows(left))
            mini_batches = (order[start : start + batch_size] for start in starts)
            return self._steps(((take_x(rows), take_t(rows)) for rows in mini_batches), max_grad)

        def until_stop() -> int:
            """How many iterations until something else is to be done: a checkpoint, or an epoch's accuracy."""
            done = at.epoch * max_iters + at.iteration
            left = max_epoch * max_iters - done if held_out is None else max_iters - at.iteration
            return left if checkpoint_every is None else min(left, checkpoint_every - done % checkpoint_every)

        def end_epoch() -> str | None:
            if held_out is None:
                return None
            self.accuracy_list.append(float(self.model.accuracy(*held_out)))  # type: ignore[attr-defined]
            return f"validation accuracy {self.accuracy_list[-1]:.4f}"

        self._run(
            epoch, max_epoch, max_iters, eval_interval, verbose, progress, end_epoch, checkpoint, checkpoint_every
        )

    def _record(self, mean_loss: float) -> float:
        self.loss_list.append(mean_loss)
        return mean_loss

    def plot(
        self, ylim: tuple[float | None, float | None] | None = None, ax: Axes | None = None, show: bool = True
    ) -> Axes:
        """Draw `loss_list` against the iterations.

        Parameters
        ----------
        ylim : (float, float), optional
            Limits of the loss axis.
        ax : matplotlib Axes, optional
            Where to draw; pyplot's current Axes otherwise.
        show : bool
            Call ``matplotlib.pyplot.show()``.

        Returns
        -------
        matplotlib Axes

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        """
        from .plot import plot_loss

        return plot_loss(self.loss_list, ax, eval_interval=self.eval_interval, ylim=ylim, show=show)


class RnnlmTrainer(TrainingLoop):
    """Training of a language model on one long sequence (truncated backpropagation through time).

    Parameters
    ----------
    model : Model
        Has ``forward(x, t) -> loss``, ``backward()``, ``params`` and ``grads``; x and t are (batch, time) int32.
    optimizer : Optimizer
        Has ``update(params, grads)``.

    Attributes
    ----------
    ppl_list : list of float
        Perplexity, exp of the mean loss, of every ``eval_interval`` iterations of the latest `fit`.
    time_idx : int
        How far the windows have advanced; `fit` starts from 0.
    current_epoch, eval_interval, interrupted
        As in `Trainer`.

    Notes
    -----
    Source: Deep Learning from Scratch 2, chapter 5.5.4.

    Examples
    --------
    >>> trainer = RnnlmTrainer(model=None, optimizer=None)
    >>> x, t = trainer.get_batch(np.arange(0, 10), np.arange(1, 11), batch_size=2, time_size=3)
    >>> x.tolist(), t.tolist()
    ([[0, 1, 2], [5, 6, 7]], [[1, 2, 3], [6, 7, 8]])
    """

    _score_name = "perplexity"
    _lists = ("ppl_list",)
    _counts = ("current_epoch", "time_idx")

    def __init__(self, model: Model, optimizer: Optimizer) -> None:
        super().__init__(model, optimizer)
        self.ppl_list: list[float] = []
        self.time_idx = 0

    def get_batch(self, x: ArrayLike, t: ArrayLike, batch_size: int, time_size: int) -> tuple[Any, Any]:
        """Return the next windows of the sequence and advance `time_idx`.

        Row i starts at ``i * (N // batch_size)`` plus what earlier calls have read, and wraps around at the end.

        Parameters
        ----------
        x, t : (N,) integer arrays
            Word ids and the ids that follow them.
        batch_size, time_size : int
            Shape of the windows.

        Returns
        -------
        batch_x, batch_t : (batch_size, time_size) int32 arrays
        """
        where = "RnnlmTrainer.get_batch"
        words, targets = as_array(x, where, "x"), as_array(t, where, "t")
        data_size = len(words)
        offsets = np.arange(batch_size) * (data_size // batch_size)
        index = (offsets[:, None] + self.time_idx + np.arange(time_size)) % data_size
        self.time_idx += time_size
        return words[index].astype(np.int32, copy=False), targets[index].astype(np.int32, copy=False)

    def fit(
        self,
        xs: ArrayLike,
        ts: ArrayLike,
        max_epoch: int = 10,
        batch_size: int = 20,
        time_size: int = 35,
        max_grad: float | None = None,
        eval_interval: int | None = 20,
        verbose: bool | int = True,
        progress: bool | None = None,
    ) -> None:
        """Train the model on the sequence, window after window.

        Parameters
        ----------
        xs, ts : (N,) integer arrays
            Word ids and the ids that follow them.
        max_epoch : int
            Each epoch is ``N // (batch_size * time_size)`` iterations, at least one.
        batch_size, time_size : int
            Shape of the windows: so many places in the sequence, so many steps each.
        max_grad, eval_interval, verbose, progress
            As in `Trainer.fit`; the line tells the perplexity.

        Raises
        ------
        ValueError, TypeError
            One line that names the argument, what was expected and what was received.
        """
        where = "RnnlmTrainer.fit"
        words, targets = check_data(where, "xs", xs, "ts", ts)
        if words.ndim != 1 or targets.ndim != 1:
            shapes = f"{words.shape} and {targets.shape}"
            raise ValueError(f"{where}: xs and ts must be sequences of ids, got shapes {shapes}")
        max_epoch, batch_size, eval_interval = check_counts(where, max_epoch, batch_size, eval_interval)
        time_size = check_count(where, "time_size", time_size, 1)
        check_max_grad(where, max_grad)
        check_model(where, self.model, self.optimizer)
        if not self._begin():
            self.time_idx = 0
            self.ppl_list = []
        max_iters = max(1, len(words) // (batch_size * time_size))

        def batches() -> Iterator[tuple[Any, Any]]:
            for _ in range(self._progress.iteration, max_iters):
                yield self.get_batch(words, targets, batch_size, time_size)

        def epoch() -> Iterator[Any]:
            return self._steps(batches(), max_grad)

        self._run(epoch, max_epoch, max_iters, eval_interval, verbose, progress)

    def _record(self, mean_loss: float) -> float:
        with np.errstate(over="ignore"):  # a diverged model has perplexity inf, not a warning
            perplexity = float(np.exp(mean_loss))
        self.ppl_list.append(perplexity)
        return perplexity

    def plot(
        self, ylim: tuple[float | None, float | None] | None = None, ax: Axes | None = None, show: bool = True
    ) -> Axes:
        """Draw `ppl_list` against the iterations; arguments and result as of `Trainer.plot`."""
        from .plot import plot_loss

        return plot_loss(self.ppl_list, ax, eval_interval=self.eval_interval, ylabel="perplexity", ylim=ylim, show=show)


def _row_taker(a: Any, batch_size: int) -> Callable[[np.ndarray], Any]:
    """Return rows -> a[rows], into a buffer that is reused where NumPy can do so."""
    if not isinstance(a, np.ndarray):
        return lambda rows: a[rows]
    buffer = np.empty((batch_size, *a.shape[1:]), a.dtype)
    if a.flags.c_contiguous and a.flags.aligned:
        # Rows are valid by construction; mode="raise" would gather into a second buffer first.
        return lambda rows: np.take(a, rows, axis=0, out=buffer, mode="clip")

    def take(rows: np.ndarray) -> np.ndarray:  # np.take would first copy all of a, each time, to make it contiguous
        buffer[...] = a[rows]
        return buffer

    return take
