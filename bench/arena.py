"""Where contestants meet: each result is held against float64, then all take turns, and the best setting counts."""

from __future__ import annotations

import ctypes
import dataclasses
import os
import sys
import tempfile
import time
from typing import Any

from fastnn._timing import Contestant, interleave

from .cases import Case, Job, is_ours
from .peers import PEERS, Peer

SETTLING = "op", "convnet"  # kinds of cases whose libraries may allocate much at each call
SETTLED = 1.5  # seconds after which one who takes long is timed as it is


@dataclasses.dataclass
class Outcome:
    """What one contestant came to in one case.

    Attributes
    ----------
    error : str
        Why it was not timed: the result was wrong, or it failed.
    seconds : list of float
        A call's, round by round, with the number of threads that was best.
    threads : int or None
        That number; None where the library chose.
    first_call : float
        Seconds until the first call was done, compilation included.
    others : float
        CPUs that other processes kept busy meanwhile.
    """

    error: str = ""
    seconds: list[float] = dataclasses.field(default_factory=list)
    median: float = 0.0
    spread: float = 0.0
    threads: int | None = None
    first_call: float = 0.0
    others: float = 0.0


class Arena:
    """The contestants of one process.

    Parameters
    ----------
    contests : dict of Case to list of type
        Who takes part in what. Libraries are loaded in the order of `PEERS`.
    rounds : int
        Measurements of each; none if 0: results are only checked.
    """

    def __init__(self, contests: dict[Case, list[type[Peer]]], rounds: int) -> None:
        keep_memory()
        self._inductor = tempfile.TemporaryDirectory()  # else what torch.compile finds fastest is kept for another day
        os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", self._inductor.name)
        self.contests, self.rounds = contests, rounds
        self.ready: dict[type[Peer], Peer] = {}
        self.missing: dict[type[Peer], str] = {}
        named = {peer for peers in contests.values() for peer in peers}
        for peer in sorted(named, key=lambda peer: PEERS.index(peer) if peer in PEERS else len(PEERS)):
            try:
                self.ready[peer] = peer()
            except ImportError as error:
                self.missing[peer] = f"{peer.name}: {error}"
        from . import machine  # loads Numba: not before PyTorch

        self._rates, self._limits = machine.rates, machine.limits
        self.machine = machine.describe() if rounds else {}
        self.records: list[dict[str, Any]] = []
        self._outcomes: dict[Case, dict[type[Peer], Outcome]] = {}

    def outcome(self, case: Case, peer: type[Peer]) -> Outcome:
        """That of one contestant; all in a case are measured when the first of them is asked for."""
        if case not in self._outcomes:
            self._outcomes[case] = self._measure(case, [self.ready[p] for p in self.contests[case] if p in self.ready])
        return self._outcomes[case][peer]

    def record(self, case: Case, peer: type[Peer]) -> dict[str, Any]:
        """All there is to say of one contestant in one case, as plain values: what reports are made of."""
        outcome = self.outcome(case, peer)
        record = self.keep(case.kind, case.name, case.dtype, peer.name, outcome.median)
        record |= {
            "threads": outcome.threads, "spread": outcome.spread, "others": outcome.others,
            "first_call": outcome.first_call or None,
            "goals": case.goals.get(peer.name, {}),
            "flops": case.flops, "bytes": case.bytes, "samples": case.samples,
        }  # fmt: skip
        peers = [(o.median, p.name) for p, o in self._outcomes[case].items() if o.seconds and not is_ours(p.name)]
        if peers and is_ours(peer.name):
            best, record["best_peer"] = min(peers)
            record["times_best_peer"] = best / outcome.median
        return record

    def keep(self, kind: str, case: str, dtype: str, contestant: str, median: float) -> dict[str, Any]:
        """A new record, with what every record has."""
        record = {"kind": kind, "case": case, "dtype": dtype, "contestant": contestant, "median": median}
        self.records.append(record)
        return record

    def finish(self) -> None:
        """Measure the machine's limits once more, and say in every record how near to them it came."""
        self.machine["roofline"] = self._limits(self.machine["roofline"])
        for record in self.records:
            if "flops" in record:
                record |= self._rates(self.machine["roofline"], record)

    def _measure(self, case: Case, peers: list[Peer]) -> dict[type[Peer], Outcome]:
        data, outcomes = case.inputs(), {}
        contestants: list[tuple[Outcome, Contestant]] = []
        for peer in peers:
            for threads in peer.settings(case):
                outcome = Outcome(threads=threads)
                try:
                    contestants.append((outcome, self._prepare(case, data, peer, outcome)))
                except Exception as error:  # a peer that breaks must not cost the others their numbers
                    outcome.error = f"{peer.name}, {case.name} {case.dtype}: {type(error).__name__}: {error}"
                outcomes.setdefault(type(peer), []).append(outcome)
        if self.rounds and contestants:
            others = interleave([contestant for _, contestant in contestants], self.rounds)
            for outcome, contestant in contestants:
                outcome.seconds, outcome.others = contestant.seconds, others
                outcome.median, outcome.spread = contestant.median, contestant.spread
        return {peer: _best(tried) for peer, tried in outcomes.items()}

    def _prepare(self, case: Case, data: Any, peer: Peer, outcome: Outcome) -> Contestant:
        start = time.perf_counter()
        peer.use(outcome.threads)
        job = getattr(peer, case.kind)(case, data)
        if case.first_steps:
            job.call()
            job.wait()
            outcome.first_call = time.perf_counter() - start
            for _ in range(case.first_steps - 1):
                job.call()
        start = time.perf_counter()
        case.check(data, job.result())
        if self.rounds and case.kind in SETTLING:
            settle(job, start + SETTLED)
        spins = not is_ours(peer.name) and outcome.threads != 1  # fastnn's threads give way early
        return Contestant(job.call, job.wait, lambda: peer.use(outcome.threads), spins=spins)


def settle(job: Job, until: float) -> None:
    """Ten calls, if there is time for them: so many pass until malloc finds large arrays in memory that it has kept.

    PyTorch's softmax with cross-entropy of (512, 32000) took 90 to 480 ms in its first nine calls, and 27 from then on.
    """
    for _ in range(10):
        if time.perf_counter() > until:
            break
        job.call()
    job.wait()


def _best(tried: list[Outcome]) -> Outcome:
    """The fastest; one that was wrong, if any was."""
    wrong = [outcome for outcome in tried if outcome.error]
    return wrong[0] if wrong else min(tried, key=lambda outcome: outcome.median)


def keep_memory() -> None:
    """Have glibc's malloc keep the memory that is freed, for everyone here.

    Else who allocates large results pays for page faults at each call: PyTorch's sigmoid of 10 million floats took 11
    to 75 ms, and 2.6 with this, as with ``MALLOC_MMAP_THRESHOLD_`` and ``MALLOC_TRIM_THRESHOLD_`` set from outside.
    """
    if sys.platform == "linux":
        mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # not in every C library
        if mallopt is not None:
            for option in (-1, -3):  # M_TRIM_THRESHOLD, M_MMAP_THRESHOLD
                mallopt(option, 2**31 - 1)
