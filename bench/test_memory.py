"""What a compiled step takes of memory beyond parameters, activations and the gradients of both, in a new process."""

from __future__ import annotations

import subprocess
import sys

import pytest

from .goals import MEGABYTES
from .networks import Training

CASES = [
    Training(sizes=(784, 512, 512, 10), batch=128),
    Training(sizes=(1024, 1024, 1024, 1024), batch=512),
]
STEPS = """
import gc
from pathlib import Path
import fastnn
from fastnn._backends import BACKENDS
from bench.networks import LR, Training

def held(field):
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(1024 * int(line.split()[1]) for line in lines if line.startswith(field))

def step_of(case):
    data = case.inputs()
    step = BACKENDS["fastnn"].step(data.params, data.x, data.t, case.activation, LR)
    return data, step

data, step = step_of(Training(sizes=(300, 300, 10), batch=300))  # loads the kernels
step()
del data, step
gc.collect()
before = held("VmRSS")
case = {case!r}
data, step = step_of(case)
Path("/proc/self/clear_refs").write_text("5")  # forget the peak
step()
step()
params = sum(p.nbytes for pair in data.params for p in pair)
activations = case.batch * sum(case.sizes[1:]) * data.x.itemsize
needed = data.x.nbytes + 2 * (params + activations)
print((held("VmHWM") - before - needed) / fastnn.get_num_threads() / 1e6)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc/self/status")
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.slug)
def test_step_memory(benchmark, arena, case):
    benchmark.group = f"memory: {case.name}, {case.dtype}"
    command = [sys.executable, "-c", STEPS.replace("{case!r}", repr(case))]
    done = benchmark.pedantic(subprocess.run, (command,), {"check": True, "capture_output": True, "text": True})
    record = arena.keep("memory", case.name, case.dtype, "fastnn, compiled", float(done.stdout))
    record["goals"] = {MEGABYTES: 2.0}
    benchmark.extra_info.update(record)  # the dict that pytest-benchmark took note of
