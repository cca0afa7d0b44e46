"""Training loops with the interface of the book: `Trainer` for mini-batches, `RnnlmTrainer` for sequences.

Source: Deep Learning from Scratch 2, chapters 1.4.4 (Trainer), 5.5.4 (RnnlmTrainer) and 6.1.5 (max_grad).
Any object with the methods of `Model` can be trained, any object with `update(params, grads)` can be the optimizer.
"""

from __future__ import annotations

import operator
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from .util import clip_grads, remove_duplicate

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from numpy.typing import ArrayLike

__all__ = ["Trainer", "RnnlmTrainer", "remove_duplicate"]

Rng = np.random.Generator | np.random.RandomState | int | None


class Model(Protocol):
    """What a trainer asks of a model. `accuracy(x, t)` is needed only for validation data.

    `params` and `grads` are lists of arrays, or containers that slice to lists.
    """

    params: Any
    grads: Any

    def forward(self, x: Any, t: Any) -> Any:
        """Return the loss of the mini-batch."""

    def backward(self) -> Any:
        """Write the gradients of that loss into `grads`."""


class Optimizer(Protocol):
    """What a trainer asks of an optimizer."""

    def update(self, params: Any, grads: Any) -> None:
        """Change params in place."""


class _TrainingLoop:
    """What the two trainers share: the loop over epochs, the lines, the bar, Ctrl-C."""

    _score_name = "loss"

    def __init__(self, model: Model, optimizer: Optimizer) -> None:
        self.model = model
        self.optimizer = optimizer
        self.eval_interval: int | None = None
        self.current_epoch = 0
        self.interrupted = False
        self._ctrl_c = _CtrlC()

    def _step(self, x: Any, t: Any, max_grad: float | None) -> Any:
        """Do one iteration (loss, gradients, update) and return the loss.

        The only place where a trainer touches the model's parameters.
        """
        model = self.model
        loss = model.forward(x, t)
        model.backward()
        params, grads = remove_duplicate(model.params, model.grads)
        if max_grad is not None:
            clip_grads(grads, max_grad)
        self._ctrl_c.hold()  # from here to the bookkeeping: all of the update or nothing
        self.optimizer.update(params, grads)
        return loss

    def _record(self, mean_loss: float) -> float:
        """Keep the score of an interval and return it for the line."""
        raise NotImplementedError

    def _run(
        self,
        batches: Callable[[], Iterator[tuple[Any, Any]]],
        max_epoch: int,
        max_iters: int,
        max_grad: float | None,
        eval_interval: int | None,
        verbose: bool | int,
        progress: bool | None,
        end_epoch: Callable[[], str | None] = lambda: None,
    ) -> None:
        """Train for max_epoch epochs of the mini-batches that `batches()` yields."""
        self.eval_interval = eval_interval
        self.interrupted = False
        total_loss: Any = 0.0
        loss_count = evaluations = iters_done = 0
        if progress is None:
            progress = bool(verbose) and sys.stderr is not None and sys.stderr.isatty()
        start_time = time.time()
        with _Output(progress, max_epoch * max_iters) as output, self._ctrl_c:
            try:
                for _ in range(max_epoch):
                    output.describe(f"epoch {self.current_epoch + 1}")
                    iters_done = 0
                    for iters, (batch_x, batch_t) in enumerate(batches()):
                        total_loss += self._step(batch_x, batch_t, max_grad)  # not float(): it may live on a GPU
                        loss_count += 1
                        iters_done = iters + 1
                        if eval_interval is not None and iters % eval_interval == 0:
                            score = self._record(float(total_loss / loss_count))
                            total_loss, loss_count = 0.0, 0
                            evaluations += 1
                            output.score(f"{self._score_name} {score:.2f}")
                            if verbose and (evaluations == 1 or evaluations % verbose == 0):
                                output.line(
                                    "| epoch %d |  iter %d / %d | time %d[s] | %s %.2f"
                                    % (self.current_epoch + 1, iters + 1, max_iters, time.time() - start_time,
                                       self._score_name, score)
                                )
                        output.advance()
                        self._ctrl_c.release()
                    line = end_epoch()
                    self.current_epoch += 1
                    if line and verbose:
                        output.line(f"| epoch {self.current_epoch} |  {line}")
            except KeyboardInterrupt:
                self.interrupted = True
                output.line(
                    f"| stopped by Ctrl-C in epoch {self.current_epoch + 1} after iter {iters_done} / {max_iters}; "
                    "the model keeps what it has learned"
                )


class Trainer(_TrainingLoop):
    """Mini-batch training.

    Parameters
    ----------
    model : Model
        Has ``forward(x, t) -> loss``, ``backward()``, ``params`` and ``grads``.
    optimizer : Optimizer
        Has ``update(params, grads)``, e.g. `fastnn.optimizer.SGD`.

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

    def __init__(self, model: Model, optimizer: Optimizer) -> None:
        super().__init__(model, optimizer)
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
            False prints nothing; an integer n prints only the first and every n-th line.
        progress : bool, optional
            Show a progress bar on stderr. None shows one if ``verbose`` and stderr is a terminal.
        validation : (x, t), optional
            Data whose accuracy is measured after every epoch.
        rng : numpy.random.Generator or RandomState or int, optional
            Where the order comes from; an int seeds a Generator. None takes NumPy's global state, so that a script
            that calls ``np.random.seed`` sees the order that it would see with the book's code.

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
        x, t = _check_data(where, "x", x, "t", t)
        max_epoch, batch_size, eval_interval = _check_counts(where, max_epoch, batch_size, eval_interval)
        _check_max_grad(where, max_grad)
        _check_model(where, self.model, self.optimizer)
        if validation is not None:
            validation = _check_validation(where, validation, self.model)
        permutation = _permutation_of(where, rng)
        data_size = len(x)
        batch_size = min(batch_size, data_size)
        max_iters = data_size // batch_size
        take_x, take_t = _row_taker(x, batch_size), _row_taker(t, batch_size)
        order = np.arange(data_size)

        def batches() -> Iterator[tuple[Any, Any]]:
            # The book shuffles the data set itself, x = x[idx], so that permutations compound. Permuting the row
            # numbers instead yields the same mini-batches without copying the data set in every epoch.
            nonlocal order
            order = order[permutation(data_size)]
            for start in range(0, max_iters * batch_size, batch_size):
                rows = order[start : start + batch_size]
                yield take_x(rows), take_t(rows)

        def end_epoch() -> str | None:
            if validation is None:
                return None
            self.accuracy_list.append(float(self.model.accuracy(*validation)))  # type: ignore[attr-defined]
            return f"validation accuracy {self.accuracy_list[-1]:.4f}"

        self._run(batches, max_epoch, max_iters, max_grad, eval_interval, verbose, progress, end_epoch)

    def _record(self, mean_loss: float) -> float:
        self.loss_list.append(mean_loss)
        return mean_loss

    def plot(self, ylim: tuple[float, float] | None = None, ax: Axes | None = None, show: bool = True) -> Axes:
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


class RnnlmTrainer(_TrainingLoop):
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
        x, t = _as_array(x), _as_array(t)
        data_size = len(x)
        offsets = np.arange(batch_size) * (data_size // batch_size)
        index = (offsets[:, None] + self.time_idx + np.arange(time_size)) % data_size
        self.time_idx += time_size
        return x[index].astype(np.int32, copy=False), t[index].astype(np.int32, copy=False)

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
        xs, ts = _check_data(where, "xs", xs, "ts", ts)
        if xs.ndim != 1 or ts.ndim != 1:
            raise ValueError(f"{where}: xs and ts must be one sequence of ids each, got shapes {xs.shape} and {ts.shape}")
        max_epoch, batch_size, eval_interval = _check_counts(where, max_epoch, batch_size, eval_interval)
        time_size = _check_count(where, "time_size", time_size, 1)
        _check_max_grad(where, max_grad)
        _check_model(where, self.model, self.optimizer)
        self.time_idx = 0
        self.ppl_list = []
        max_iters = max(1, len(xs) // (batch_size * time_size))

        def batches() -> Iterator[tuple[Any, Any]]:
            for _ in range(max_iters):
                yield self.get_batch(xs, ts, batch_size, time_size)

        self._run(batches, max_epoch, max_iters, max_grad, eval_interval, verbose, progress)

    def _record(self, mean_loss: float) -> float:
        with np.errstate(over="ignore"):  # a diverged model has perplexity inf, not a warning
            perplexity = float(np.exp(mean_loss))
        self.ppl_list.append(perplexity)
        return perplexity

    def plot(self, ylim: tuple[float, float] | None = None, ax: Axes | None = None, show: bool = True) -> Axes:
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


class _CtrlC:
    """Holds Ctrl-C back while parameters are being written.

    Acts only where Python's own handler is in place (main thread, nobody else's handler).
    """

    def __init__(self) -> None:
        self._held = self._pending = self._installed = False

    def __enter__(self) -> _CtrlC:
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


class _Output:
    """Lines on stdout, and a tqdm bar on stderr that they do not tear."""

    def __init__(self, progress: bool, total: int) -> None:
        self._bar: Any = None
        if progress:
            from tqdm.auto import tqdm

            self._bar = tqdm(total=total, unit="batch", dynamic_ncols=True)

    def __enter__(self) -> _Output:
        return self

    def __exit__(self, *exc_info: object) -> None:
        if self._bar is not None:
            self._bar.close()

    def describe(self, text: str) -> None:
        if self._bar is not None:
            self._bar.set_description(text, refresh=False)

    def score(self, text: str) -> None:
        if self._bar is not None:
            self._bar.set_postfix_str(text, refresh=False)

    def advance(self) -> None:
        if self._bar is not None:
            self._bar.update()

    def line(self, text: str) -> None:
        if self._bar is not None:
            self._bar.write(text)
        else:
            print(text, flush=True)


def _as_array(a: Any) -> Any:
    """Leave GPU arrays where they are, make everything else a NumPy array."""
    return a if hasattr(a, "__cuda_array_interface__") else np.asarray(a)


def _check_data(where: str, x_name: str, x: Any, t_name: str, t: Any) -> tuple[Any, Any]:
    x, t = _as_array(x), _as_array(t)
    for name, a in ((x_name, x), (t_name, t)):
        if a.ndim == 0:
            raise ValueError(f"{where}: {name} must be an array with one row per sample, got {a!r}")
    if len(x) != len(t):
        raise ValueError(f"{where}: {t_name} must have as many rows as {x_name}, {len(x)}, got {len(t)}")
    if len(x) == 0:
        raise ValueError(f"{where}: {x_name} must have at least one row, got shape {x.shape}")
    return x, t


def _check_count(where: str, name: str, value: Any, least: int) -> int:
    try:
        value = operator.index(value)
    except TypeError:
        raise TypeError(f"{where}: {name} must be an integer, got {value!r}") from None
    if value < least:
        raise ValueError(f"{where}: {name} must be at least {least}, got {value}")
    return value


def _check_counts(
    where: str, max_epoch: Any, batch_size: Any, eval_interval: Any
) -> tuple[int, int, int | None]:
    if eval_interval is not None:
        eval_interval = _check_count(where, "eval_interval", eval_interval, 1)
    return _check_count(where, "max_epoch", max_epoch, 0), _check_count(where, "batch_size", batch_size, 1), eval_interval


def _check_max_grad(where: str, max_grad: Any) -> None:
    if max_grad is not None and not max_grad > 0:
        raise ValueError(f"{where}: max_grad must be a positive number or None, got {max_grad!r}")


def _check_model(where: str, model: Any, optimizer: Any) -> None:
    for what, thing, names in (
        ("model", model, ("forward", "backward", "params", "grads")),
        ("optimizer", optimizer, ("update",)),
    ):
        for name in names:
            if not hasattr(thing, name):
                raise TypeError(f"{where}: the {what} must have {', '.join(names)}; {type(thing).__name__} has no {name}")


def _check_validation(where: str, validation: Any, model: Any) -> tuple[Any, Any]:
    if not isinstance(validation, (tuple, list)) or len(validation) != 2:
        raise ValueError(f"{where}: validation must be a pair (x, t), got {type(validation).__name__}")
    if not hasattr(model, "accuracy"):
        raise TypeError(f"{where}: validation needs a model with accuracy(x, t); {type(model).__name__} has none")
    return _check_data(where, "validation x", validation[0], "validation t", validation[1])


def _permutation_of(where: str, rng: Any) -> Callable[[int], np.ndarray]:
    if rng is None:
        return np.random.permutation
    if isinstance(rng, (np.random.Generator, np.random.RandomState)):
        return rng.permutation
    try:
        return np.random.default_rng(operator.index(rng)).permutation
    except (TypeError, ValueError):
        raise TypeError(
            f"{where}: rng must be a numpy Generator, a RandomState, an integer >= 0 or None, got {rng!r}"
        ) from None
