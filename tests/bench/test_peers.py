"""The contestants of the benchmarks compute the same thing."""

import dataclasses

import numpy as np
import pytest

from bench import peers
from bench.cases import CASES, CHECKED_STEPS, check, inputs

# The rest is left to the benchmarks themselves, which check before they time.
SMALL = [case for case in CASES if case.batch * max(case.sizes) <= 80_000]
READY, MISSING = peers.installed((peers.NumpyBook, peers.Numpy, peers.FastnnLayers, peers.FastnnCompiled))


@pytest.mark.parametrize("peer", READY, ids=lambda peer: peer.name)
@pytest.mark.parametrize("case", SMALL, ids=lambda case: f"{case.kind}-{case.name}-{case.dtype}".replace(" ", "-"))
def test_results_are_right(case, peer):
    build = getattr(peer, case.kind, None)
    if build is None:
        pytest.skip(f"{peer.name} does not take part in {case.kind}")
    peer.use(peer.threads[0])
    job = build(case, inputs(case))
    if case.kind == "train":
        for _ in range(CHECKED_STEPS):
            job.call()
    check(case, inputs(case), job.result())


def test_no_peer_is_missing_here():
    assert MISSING == {}


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_wrong_step_is_found(dtype):
    """A gradient that is off by a thousandth, a step left out."""
    case = dataclasses.replace(CASES[2], dtype=dtype)
    data = inputs(case)
    job = peers.FastnnLayers().train(case, data)
    for _ in range(CHECKED_STEPS):
        job.call()
    right = job.result()
    check(case, data, right)
    start = [p for pair in data.params for p in pair]
    nearly = [(p0 + (p - p0) * case_scale(dtype)).astype(dtype) for p, p0 in zip(right, start, strict=True)]
    with pytest.raises(AssertionError, match="off by"):
        check(case, data, nearly)
    with pytest.raises(AssertionError, match="off by"):
        check(case, data, start)


def case_scale(dtype):
    return 1 + np.finfo(dtype).eps ** 0.5
