"""Every case, every contestant: ``pytest --benchmark-only``, or with ``-k quick``, ``-k "train and float32"``.

pytest-benchmark times one function after the other; where a machine is shared, or changes its clock, the ratio of two
such times means little. Here the first test of a case lets all contestants that were selected take turns, and each test
hands its own measurements to pytest-benchmark: what its tables, files and comparisons show are those.
"""

from __future__ import annotations

import pytest

from .cases import slug
from .convnets import CONVNETS
from .loops import LOOPS, RUNS
from .networks import NETWORKS
from .ops import OPS
from .peers import PEERS, ScikitLearn, TorchCompiled

# Less than a minute's worth: a case or two of each kind, without those who take long, to compile or to run.
QUICK = {
    ("train", "784-50-10 relu, 100", "float32"),
    ("train", "2-10-3 sigmoid, 30", "float32"),
    ("predict", "784-50-100-10 sigmoid, 100", "float32"),
    ("op", "sigmoid forward, 100000", "float32"),
}


pytestmark = pytest.mark.filterwarnings("ignore")  # of the peers' own


class Replay:
    """A clock that shows measurements made before: each tick takes as long as the next of them."""

    def __init__(self):
        self.now, self.seconds = 0.0, iter(())

    def __call__(self):
        return self.now

    def tick(self):
        self.now += next(self.seconds)


CLOCK = Replay()


def contests(cases, peers):
    """Parameters of a test for each case and each contestant that takes part."""
    params = []
    for case in cases:
        for peer in filter(lambda peer: peer.takes(case), peers):
            quick = (case.kind, case.name, case.dtype) in QUICK and peer not in (TorchCompiled, ScikitLearn)
            marks = [pytest.mark.quick] if quick else []
            params.append(pytest.param(case, peer, id=f"{case.slug}-{slug(peer.name)}", marks=marks))
    return pytest.mark.parametrize("case, peer", params)


@pytest.fixture
def contest(benchmark, arena, case, peer):
    """Runs one contestant of one case."""

    def run():
        if peer in arena.missing:
            pytest.skip(arena.missing[peer])
        outcome = arena.outcome(case, peer)
        if outcome.error:
            pytest.fail(outcome.error, pytrace=False)
        benchmark.group = f"{case.kind}: {case.name}, {case.dtype}"
        if arena.rounds:
            benchmark.extra_info = arena.record(case, peer)
        CLOCK.seconds = iter(outcome.seconds or [0.0])
        benchmark.pedantic(CLOCK.tick, rounds=max(1, arena.rounds))

    return run


timed_before = pytest.mark.benchmark(timer=CLOCK)


@timed_before
@contests([case for case in NETWORKS if case.kind == "train"], PEERS)
def test_train(contest):
    contest()


@timed_before
@contests([case for case in NETWORKS if case.kind == "predict"], PEERS)
def test_predict(contest):
    contest()


@timed_before
@contests([case for case in NETWORKS if case.kind == "images"], PEERS)
def test_images(contest):
    contest()


@timed_before
@contests(OPS, PEERS)
def test_op(contest):
    contest()


@timed_before
@contests(CONVNETS, PEERS)
def test_convnet(contest):
    contest()


@timed_before
@contests(LOOPS, RUNS)
def test_loop(contest):
    contest()
