"""What fastnn is held against: the best peer, one of them, a limit of the machine; and how far it came."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any

BEST = "best peer"
PEAK, COPY = "FMA peak", "copy bandwidth"
SECONDS, MEGABYTES = "s, at most", "MB a thread, at most"

_LIMITS = {PEAK: "of_fma_peak", COPY: "of_copy"}  # shares of them, in records


@dataclasses.dataclass(frozen=True)
class Figure:
    """One goal of one contestant.

    Attributes
    ----------
    record : dict
        The contestant's.
    against : str
        What it is held against: a contestant's name, or one of the words above.
    goal : float
        How many times as fast as that, what share of that limit, or how much of that it is meant to be.
    reached : float or None
        The same, as measured; None where it was not.
    """

    record: dict[str, Any]
    against: str
    goal: float
    reached: float | None

    @property
    def name(self) -> str:
        """As in ``train: 784-50-10 relu, 100, float32``."""
        return f"{self.record['kind']}: {self.record['case']}, {self.record['dtype']}".removesuffix(", ")

    @property
    def met(self) -> bool | None:
        """Whether the goal was reached; None where nobody knows."""
        if self.reached is None:
            return None
        return self.reached <= self.goal if self.against in (SECONDS, MEGABYTES) else self.reached >= self.goal

    @property
    def is_ratio(self) -> bool:
        """Whether it is held against peers."""
        return self.against not in (*_LIMITS, SECONDS, MEGABYTES)


def figures(records: Sequence[dict[str, Any]]) -> Iterator[Figure]:
    """Every goal that the records name, in their order."""
    medians = {(r["kind"], r["case"], r["dtype"], r["contestant"]): r["median"] for r in records}
    for r in records:
        for against, goal in (r.get("goals") or {}).items():
            if against == BEST:
                reached = r.get("times_best_peer")
            elif against in _LIMITS:
                reached = r.get(_LIMITS[against])
            elif against in (SECONDS, MEGABYTES):
                reached = r["median"]
            else:
                other = medians.get((r["kind"], r["case"], r["dtype"], against))
                reached = other and other / r["median"]
            yield Figure(r, against, goal, reached)
