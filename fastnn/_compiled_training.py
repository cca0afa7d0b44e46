"""How `Trainer` uses the compiled step: when it may, and how many iterations at a time."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from ._arrays import Array
from ._device import as_plain, to_cpu, xp_of
from .compiled import CompiledStep, compile
from .models import Network

if TYPE_CHECKING:
    from ._checkpoint import Progress
    from ._training import CtrlC

_LOGGER = logging.getLogger("fastnn")

# Rows gathered at a time from data that the kernels cannot read as they lie (another dtype, not contiguous).
_GATHERED_ROWS = 4096

# Data up to so many values are converted as a whole instead.
_CONVERTED_VALUES = 1 << 20

# Of multiply-adds forward: some milliseconds, for which Ctrl-C and lines wait; and what a step costs besides.
_WORK_AT_ONCE, _WORK_OF_A_STEP = 100_000_000, 20_000

# Rows whose numbers are drawn at a time, beyond those of one epoch.
_ROWS_AT_ONCE = 1 << 20


class CompiledTraining:
    """A compiled step with the data that it trains on."""

    def __init__(self, step: CompiledStep, x: Array, labels: Array) -> None:
        self._step, self._x, self._labels = step, x, labels
        self._direct = step.reads(x)
        self._losses: Any = []  # of the iterations that were done last
        self._yielded = 0  # of these

    @classmethod
    def of(cls, model: Any, optimizer: Any, max_grad: float | None, x: Any, t: Any) -> CompiledTraining | None:
        """None where the model, the optimizer or the data must be left to the layers."""
        try:
            step = compile(model, optimizer, max_grad)
            x = step.rows(x)
            labels = step.labels(t, x)  # checked here once for all
            step.data(x[:1], labels[:1])  # whether samples fit the network, one stands for all
            if not step.reads(x) and x.size <= _CONVERTED_VALUES:
                x = step.rows(as_plain(x, step.dtype))
        except (TypeError, ValueError, AttributeError) as reason:
            _LOGGER.debug("Trainer: layer by layer (%s)", reason)
            return None
        if not _same_network(model, step, x, labels):
            _LOGGER.debug("Trainer: layer by layer (the model computes something else than its layers in order)")
            return None
        _LOGGER.debug("Trainer: by the compiled step")
        return cls(step, x, labels)

    def steps(
        self,
        at: Progress,
        max_iters: int,
        next_rows: Callable[[int], Array],
        batch_size: int,
        until_stop: Callable[[], int],
        eval_interval: int | None,
        ctrl_c: CtrlC,
    ) -> Iterator[Any]:
        """The iterations of an epoch that are left, `at` being kept up to date; yields losses up to an evaluation.

        More may be done by then, of later epochs as well, so that a call of the step is worth its while: up to the next
        stop. next_rows: which rows the mini-batches of so many iterations are.
        """
        while at.iteration < max_iters:
            if self._yielded == len(self._losses):
                ctrl_c.hold()
                losses = self._train(next_rows, min(until_stop(), self._most_at_once(batch_size)), batch_size)
                self._losses, self._yielded = losses.tolist() if isinstance(losses, np.ndarray) else losses, 0
            count = max_iters - at.iteration
            if eval_interval is not None:
                count = min(count, -at.iteration % eval_interval + 1)
            losses = self._losses[self._yielded : self._yielded + count]
            self._yielded += len(losses)
            yield losses
            if self._yielded == len(self._losses):
                ctrl_c.release()

    def _most_at_once(self, batch_size: int) -> int:
        limit = _WORK_AT_ONCE // (batch_size * sum(p.size for p in self._step.params) + _WORK_OF_A_STEP)
        return max(1, min(limit, (_ROWS_AT_ONCE if self._direct else _GATHERED_ROWS) // batch_size))

    def _train(self, next_rows: Callable[[int], Array], count: int, batch_size: int) -> Array:
        rows = next_rows(count)
        if self._direct:
            return self._step.steps(self._x, self._labels, rows, batch_size)
        there = xp_of(self._x).asarray(rows)
        x = self._step.rows(as_plain(self._x[there], self._step.dtype))
        return self._step.steps(x, self._labels[there], np.arange(len(rows)), batch_size)


def _same_network(model: Any, step: CompiledStep, x: Array, labels: Array) -> bool:
    """Whether the model computes just what its layers in order do, and trains all of their parameters.

    A fastnn network does by construction. Of another class this is seen by trying: on a few samples.
    """
    if {id(p) for p in model.params} != {id(p) for p in step.params}:
        return False
    methods = ("predict", "forward", "backward")
    if isinstance(model, Network) and all(getattr(type(model), m) is getattr(Network, m) for m in methods):
        return True
    x, labels = step.data(x[:8], labels[:8])
    try:
        loss = float(model.forward(x, labels))
        model.backward()
    except Exception as reason:  # a model may insist on its batch size, say: training will tell
        _LOGGER.debug("Trainer: the model does not take a few samples (%s)", reason)
        return False
    grads = [to_cpu(g).copy() for g in model.grads]
    own_loss = float(step.gradient(x, labels))
    tolerance = 1e-3 if step.dtype == np.float32 else 1e-9
    pairs: list[tuple[Any, Any]] = [(loss, own_loss), *zip(grads, map(to_cpu, model.grads), strict=True)]
    return all(np.allclose(a, b, rtol=tolerance, atol=tolerance * (1e-6 + np.max(np.abs(b)))) for a, b in pairs)
