"""What all contestants have."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from ..cases import Array, Case, Job, job_of_outputs
from ..networks import Inference, Inputs, Network
from ..ops.op import Op


class Peer:
    """Base of the contestants.

    Attributes
    ----------
    name : str
    library : str
        The method of `Op` that is this contestant's.
    threads : tuple
        How many it may be timed with.
    """

    name = ""
    library = ""
    threads: tuple[int | None, ...] = (1, 2)
    train: Any = None

    @classmethod
    def takes(cls, case: Case) -> bool:
        """Whether it takes part."""
        if isinstance(case, Op):
            return getattr(case, cls.library, None) is not None
        return getattr(cls, "predictor" if isinstance(case, Inference) else case.kind, None) is not None

    def settings(self, case: Case) -> tuple[int | None, ...]:
        """How many threads it is timed with in this case; the best counts."""
        return self.threads

    def use(self, threads: int | None) -> None:
        """Compute on so many threads from now on; None leaves the library its own choice."""

    predictor: Any = None  # (case, data) -> what makes a batch its own, what predicts a batch

    def without_gradients(self, call: Callable[..., Any]) -> Callable[..., Any]:
        """`call`, told that nothing will be differentiated."""
        return call

    def predict(self, case: Network, data: Inputs) -> Job:
        convert, predict = self.predictor(case, data)
        return job_of_outputs(self.without_gradients(partial(predict, convert(data.x))))

    def images(self, case: Network, data: Inputs) -> Job:
        convert, predict = self.predictor(case, data)
        batches = [convert(data.x[i : i + case.batch]) for i in range(0, len(data.x), case.batch)]

        @self.without_gradients
        def all_batches() -> None:
            for x in batches:
                predict(x)

        @self.without_gradients
        def result() -> list[Array]:
            return [np.concatenate([np.array(predict(x)) for x in batches])]

        return Job(all_batches, result)

    def op(self, case: Op, data: list[Array]) -> Job:
        return job_of_outputs(getattr(case, self.library)(*(a.copy() for a in data)))
