"""Train for 100,000 steps, compiled and layer by layer: memory stays where it was.

python -m tests.stress.memory [--steps 100000]
"""

import argparse
import sys
from pathlib import Path

import numpy as np

import fastnn
from fastnn.models import TwoLayerNet
from fastnn.optimizer import SGD

LIMIT = 1000  # bytes in 1,000 steps


def resident():
    """Bytes of memory that the process holds; Linux knows."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


def slope(step, steps):
    """Bytes that memory grows by in 1,000 steps, by least squares, after a fifth to settle in."""
    sizes = []
    for n in range(steps):
        step()
        if n >= steps // 5 and n % 1000 == 0:
            sizes.append(resident())
    return np.polyfit(np.arange(len(sizes)), sizes, 1)[0]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=100_000)
    steps = parser.parse_args().steps
    rng = np.random.default_rng(0)
    x, t = rng.standard_normal((100, 64), dtype="f4"), rng.integers(0, 10, 100)
    model, optimizer = TwoLayerNet(64, 32, 10, rng=0), SGD(0.01)
    compiled = fastnn.compile(model, optimizer)

    def layers():
        model.forward(x, t)
        model.backward(input_gradient=False)
        optimizer.update(model.params, model.grads)

    predict = fastnn.compile(model)
    status = 0
    ways = {
        "compiled step": lambda: compiled(x, t),
        "compiled epoch": lambda: compiled.epoch(x, t, batch_size=50, rng=0),
        "layer by layer": layers,
        "prediction": lambda: predict(x),
    }
    for name, step in ways.items():
        grows = slope(step, steps)
        print(f"{name:<15} {steps} steps: {grows:+.1f} bytes in 1,000")
        status |= grows >= LIMIT
    return int(status)


if __name__ == "__main__":
    sys.exit(main())
