"""How time is measured: contestants in turn, round by round, in one process, with rests between them."""

from __future__ import annotations

import dataclasses
import gc
import itertools
import os
import random
import statistics
import time
from collections.abc import Callable
from typing import Any

CHUNK = 0.005  # seconds that one measurement takes at least
WARM = 0.02  # seconds of work before it: after a rest, threads are slow for some milliseconds, as in no training loop
REST = 0.15  # threads of OpenBLAS and OpenMP spin on after their work, and slow down whoever comes next
BUSY = 0.05  # CPUs that others may use in a round that counts
MOST_ROUNDS = 2  # times as many rounds as asked for, to find quiet ones


@dataclasses.dataclass
class Contestant:
    """What takes its turn.

    Attributes
    ----------
    call, wait : callable
        Does the work once; returns when all of it is done.
    prepare : callable
        Is called before each turn, untimed: sets the number of threads.
    team : str
        Contestants of one team, which run on the same threads, go one after the other without rests. Those without
        a team rest.
    spins : bool
        Whether threads of its own may wait busily for a while when its work is done: who comes next then rests first.
    seconds : list of float
        One measurement, per call, for each round that counts.
    last : float
        The latest of all.
    """

    call: Callable[[], Any]
    wait: Callable[[], Any] = lambda: None
    prepare: Callable[[], Any] = lambda: None
    team: str = ""
    spins: bool = True
    seconds: list[float] = dataclasses.field(default_factory=list)
    last: float = 0.0

    def time(self, calls: int) -> float:
        """Seconds a call."""
        call, repeat = self.call, itertools.repeat(None, calls)
        start = time.perf_counter()
        for _ in repeat:
            call()
        self.wait()
        return (time.perf_counter() - start) / calls

    def calls_a_chunk(self) -> int:
        """So many calls that they take `CHUNK` seconds."""
        calls = 1
        while (seconds := self.time(calls)) * calls < CHUNK:
            calls = max(2 * calls, int(1.2 * CHUNK / seconds))
        return calls

    @property
    def median(self) -> float:
        """Seconds a call."""
        return statistics.median(self.seconds)

    @property
    def spread(self) -> float:
        """Interquartile range of the rounds over their median."""
        if len(self.seconds) < 3:
            return 0.0
        low, _, high = statistics.quantiles(self.seconds, n=4, method="inclusive")
        return (high - low) / self.median


def interleave(contestants: list[Contestant], rounds: int, tell: Callable[[], Any] = lambda: None) -> float:
    """Time every contestant once a round, in an order of its own each round.

    A round in which other processes were busy is not counted, as long as there are not too many of them; then the
    quietest count.

    Parameters
    ----------
    contestants : list of Contestant
        Their ``seconds`` are set.
    rounds : int
        Measurements of each.
    tell : callable
        Is called after each turn.

    Returns
    -------
    float
        CPUs that others kept busy in the worst round that counts; NaN where the system does not tell.
    """
    calls: dict[int, int] = {}
    teams: dict[Any, list[Contestant]] = {}
    for c in contestants:
        teams.setdefault(c.team or id(c), []).append(c)
        c.prepare()
        calls[id(c)] = c.calls_a_chunk()
    shuffled = random.Random(0)
    done: list[tuple[float, list[float]]] = []
    gc.collect()
    gc.disable()
    try:
        while sum(not others > BUSY for others, _ in done) < rounds and len(done) < MOST_ROUNDS * rounds:
            seconds = dict.fromkeys(map(id, contestants), 0.0)
            others, start, spinning = _others(), time.perf_counter(), True
            for team in shuffled.sample(list(teams.values()), len(teams)):
                if spinning:
                    time.sleep(REST)
                spinning = any(c.spins for c in team)
                for c in shuffled.sample(team, len(team)):
                    seconds[id(c)] = _turn(c, calls[id(c)])
                    tell()
            done.append(((_others() - others) / (time.perf_counter() - start), list(seconds.values())))
    finally:
        gc.enable()
    quietest = sorted(done)[:rounds]
    for i, c in enumerate(contestants):
        c.seconds = [seconds[i] for _, seconds in quietest]
    return max(others for others, _ in quietest)


def _turn(c: Contestant, calls: int) -> float:
    c.prepare()
    seconds = 0.0
    while seconds < WARM and not c.last > WARM * 5:  # a whole training run needs no such thing
        seconds += calls * c.time(calls)
    c.last = c.time(calls)
    return c.last


def _others() -> float:
    """CPU seconds since the start of the machine that were not this process's: of others, or of other machines."""
    try:
        with open("/proc/stat") as stat:
            user, nice, system, _, _, irq, softirq, steal = map(int, stat.readline().split()[1:9])
    except OSError:
        return float("nan")
    busy = user + nice + system + irq + softirq + steal
    own = os.times()
    return busy / os.sysconf("SC_CLK_TCK") - own.user - own.system
