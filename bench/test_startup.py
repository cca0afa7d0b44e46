"""What comes before the first step, in new processes: imports; compilation, and reading kernels from their cache."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys

import pytest

from .goals import SECONDS

IMPORTS = {"Python alone": "", "import numpy": "import numpy", "import fastnn": "import fastnn"}
FIRST_STEP = """
import numpy as np
import fastnn
from fastnn.models import TwoLayerNet
from fastnn.optimizer import SGD
net, optimizer = TwoLayerNet(784, 50, 10, activation="{activation}", dtype="{dtype}", rng=0), SGD()
x, t = np.zeros((100, 784), "{dtype}"), np.zeros(100, int)
{step}
"""
STEPS = {
    "first step, layer by layer": "net.forward(x, t); net.backward(); optimizer.update(net.params, net.grads)",
    "first step, compiled": "fastnn.compile(net, optimizer)(x, t)",
    "first step and prediction, compiled": (
        "fastnn.compile(net, optimizer)(x, t); fastnn.compile(net)(x, probabilities=True)"
    ),
}

AT_MOST = {("import fastnn", "new process"): 0.6, ("first step, compiled", "cold"): 8.0}


@pytest.fixture
def new_process(benchmark, arena):
    """Times processes that run some code."""

    def run(case, dtype, who, code, rounds, **environment):
        benchmark.group = f"startup: {case}, {dtype}"
        command, options = [sys.executable, "-c", code], {"check": True, "env": os.environ | environment}
        benchmark.pedantic(subprocess.run, (command,), options, rounds=rounds)
        if benchmark.stats:
            seconds = benchmark.stats.stats.data
            record = arena.keep("startup", case, dtype, who, statistics.median(seconds))
            record["goals"] = {SECONDS: AT_MOST[case, who]} if (case, who) in AT_MOST else {}
            benchmark.extra_info.update(record)  # the dict that pytest-benchmark took note of

    return run


@pytest.mark.parametrize("what", IMPORTS)
def test_import(new_process, what):
    new_process(what, "", "new process", IMPORTS[what], rounds=15)


@pytest.fixture(scope="module")
def caches(tmp_path_factory):
    """A folder for the kernels of each way."""
    return {}, tmp_path_factory


@pytest.mark.parametrize("cache", ["cold", "from cache"])
@pytest.mark.parametrize("dtype, activation", [("float32", "relu"), ("float64", "sigmoid")])
@pytest.mark.parametrize("step", STEPS)
def test_first_step(new_process, caches, step, dtype, activation, cache):
    folders, factory = caches
    code = FIRST_STEP.format(dtype=dtype, activation=activation, step=STEPS[step])
    cold = (step, dtype) not in folders
    if cold:
        folders[step, dtype] = str(factory.mktemp("cache"))
    if cold and cache == "from cache":
        pytest.skip("the test that fills the cache was not selected")
    new_process(step, dtype, cache, code, 1 if cold else 5, FASTNN_CACHE_DIR=folders[step, dtype])
