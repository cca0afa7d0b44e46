"""What every case has, and the check that comes before any timing.

The table is in three parts: `bench.networks` (training steps and inference), `bench.ops` (one operation each) and
`bench.loops` (whole training runs).
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]

LAYERS, COMPILED = "fastnn, layers", "fastnn, compiled"
DTYPES = ("float32", "float64")


@dataclasses.dataclass
class Job:
    """One contestant's way of doing one case.

    Attributes
    ----------
    call : callable
        Does it once: this is what is timed.
    result : callable
        What came out, as arrays. It may call once more.
    wait : callable
        Returns when all calls are done; only JAX hands work over and goes on.
    """

    call: Callable[[], Any]
    result: Callable[[], list[Array]]
    wait: Callable[[], Any] = lambda: None


def job_of_outputs(call: Callable[[], Any], outputs: Callable[[], Any] | None = None) -> Job:
    """A job whose result is what `call` returns, or what `outputs` finds after it."""

    def result() -> list[Array]:
        returned = call()
        found = outputs() if outputs else returned
        return [np.array(a) for a in (found if isinstance(found, list | tuple) else [found])]

    return Job(call, result)


@dataclasses.dataclass(frozen=True)
class Case:
    """One group of competitors: what they are given, what must come out, and what that costs at least.

    Attributes
    ----------
    dtype : {"float32", "float64"}
    goals : dict of str to dict
        By contestant of fastnn: how many times as fast as what it is meant to be; see `bench.goals`.
    kind : str
        The table that it belongs to.
    first_steps : int
        Untimed calls before the result is looked at.
    """

    dtype: str = "float32"
    goals: dict[str, dict[str, float]] = dataclasses.field(default_factory=dict, hash=False, kw_only=True)

    kind = ""
    first_steps = 0

    @property
    def name(self) -> str:
        """What and how large, as in ``784-50-10 relu, 100``."""
        raise NotImplementedError

    @property
    def samples(self) -> int:
        """Rows that one call treats; 0 where that means nothing."""
        return 0

    @property
    def flops(self) -> int:
        """Floating-point operations that must be done: those of products; 0 where memory is what counts."""
        return 0

    @property
    def bytes(self) -> int:
        """What must be read and written at least, if nothing is kept in a cache from one call to the next."""
        return 0

    @property
    def slug(self) -> str:
        """The name in what ``pytest -k`` takes."""
        return slug(f"{self.name}-{self.dtype}")

    def inputs(self) -> Any:
        """What every contestant starts from: the same numbers at each call, and, rounded, in each dtype."""
        raise NotImplementedError

    def check(self, data: Any, got: list[Array]) -> None:
        """Raise AssertionError unless `got` is right to rounding."""
        raise NotImplementedError


def is_ours(contestant: str) -> bool:
    """Whether it is fastnn, and no peer."""
    return contestant.startswith("fastnn")


def slug(text: str) -> str:
    """Lower-case words and numbers with hyphens between them."""
    return re.sub(r"[^a-z0-9.]+", "-", text.lower()).strip("-")


def check_close(got: Sequence[Array], want: Sequence[Array], dtype: str, start: Sequence[Array] | None = None) -> None:
    """Hold results against those in float64; the norm of the error may be 1,000 roundings of the norm of the result.

    Where `start` is given the results moved from there, by little: what is held against the exact result is the
    movement, with room for the rounding of the results themselves.
    """
    eps = np.finfo(dtype).eps
    assert len(got) == len(want), f"{len(got)} results, expected {len(want)}"
    for i, (g, w) in enumerate(zip(got, want, strict=True)):
        assert g.dtype == dtype, f"result {i} is {g.dtype}, not {dtype}"
        moved = w - start[i] if start is not None else w
        allowed = 1000 * eps * np.linalg.norm(moved) + (4 * eps * np.linalg.norm(w) if start is not None else 0)
        error = np.linalg.norm(g.reshape(w.shape) - w)
        assert error <= allowed, f"result {i} is off by {error:.2g}, {allowed:.2g} are allowed"
