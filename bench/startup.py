"""Time of what comes before the first step: ``python -m bench.startup``.

Every figure is a median over new processes: importing fastnn; the first step in an empty cache of compiled kernels
(everything is compiled); the first step in a second process (everything is read from that cache).
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator

FIRST_STEP = """
import time
start = time.perf_counter()
import numpy as np
import fastnn
from fastnn.models import TwoLayerNet
from fastnn.optimizer import SGD
imported = time.perf_counter()
import numba
import fastnn.kernels.cpu
loaded = time.perf_counter()
net, optimizer = TwoLayerNet(784, 50, 10, activation="{activation}", dtype="{dtype}", rng=0), SGD()
x, t = np.zeros((100, 784), "{dtype}"), np.zeros(100, int)
{step}
print(imported - start, loaded - imported, time.perf_counter() - loaded)
"""
LAYERS = "net.forward(x, t); net.backward(); optimizer.update(net.params, net.grads)"
COMPILED = "fastnn.compile(net, optimizer)(x, t)"
PREDICTED = "fastnn.compile(net)(x, probabilities=True)"
STEPS = {
    "layer by layer": LAYERS,
    "compiled step": COMPILED,
    "compiled step and prediction": f"{COMPILED}; {PREDICTED}",
}


def process(code: str, **environment: str) -> tuple[float, list[float]]:
    """Seconds that a new Python process takes for `code`, and the numbers that it prints."""
    start = time.perf_counter()
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=os.environ | environment)
    return time.perf_counter() - start, [float(word) for word in done.stdout.split()]


def imports(repeats: int = 15) -> Iterator[str]:
    """Rows of a table: seconds beyond those of Python itself, the three in turn."""
    codes = {"Python alone": "", "import numpy": "import numpy", "import fastnn": "import fastnn"}
    seconds: dict[str, list[float]] = {name: [] for name in codes}
    for _ in range(repeats):
        for name, code in codes.items():
            seconds[name].append(process(code)[0])
    for name, times in seconds.items():
        yield f"| {name} | {1e3 * statistics.median(times):.0f} |"


def first_steps(dtype: str, activation: str, repeats: int = 3) -> Iterator[str]:
    """Rows of a table: loading Numba and the kernels, and the first step, cold and from the cache."""
    for name, step in STEPS.items():
        code = FIRST_STEP.format(dtype=dtype, activation=activation, step=step)
        runs: dict[str, list[list[float]]] = {"cold": [], "second process": []}
        for _ in range(repeats):
            with tempfile.TemporaryDirectory() as cache:
                for times in runs.values():
                    times.append(process(code, FASTNN_CACHE_DIR=cache)[1])
        for when, times in runs.items():
            cells = [f"{statistics.median(column):.2f}" for column in zip(*times, strict=True)]
            yield f"| {name} | {dtype} {activation} | {when} | {' | '.join(cells)} |"


def main() -> None:
    """Run the command."""
    print("| new process | ms |\n|---|---|")
    print("\n".join(imports()))
    print("\n| first step of 784-50-10 | network | kernels | import fastnn, s | load Numba, s | step, s |")
    print("|---|---|---|---|---|---|")
    for dtype, activation in (("float32", "relu"), ("float64", "sigmoid")):
        for row in first_steps(dtype, activation):
            print(row, flush=True)


if __name__ == "__main__":
    main()
