"""Layers called from 32 threads at once, and from forked children.

python -m tests.stress.threads [--threads 32] [--calls 10000] [--forks 1000]
"""

import argparse
import os
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np


def works():
    """Functions without arguments, each computing the same arrays at every call: half of them worth several threads."""
    from fastnn.layers import Affine, Relu, Softmax, SoftmaxWithLoss

    rng = np.random.default_rng(0)
    x, W, wide, scores = (rng.standard_normal(s).astype("f4") for s in ((128, 64), (64, 64), (60, 1000), (3000, 10)))
    t = rng.integers(0, 10, 3000)

    def affine():
        return Affine(W, W[0]).forward(x)

    def affine_backward():
        layer = Affine(W, W[0])
        layer.backward(layer.forward(x))
        return layer.dW

    def loss():
        layer = SoftmaxWithLoss()
        layer.forward(scores, t)
        return layer.backward()

    return affine, lambda: Relu().forward(wide), lambda: Softmax().forward(scores), affine_backward, loss


def call_from_threads(threads, calls):
    import fastnn

    functions = works()
    with fastnn.threads(1):
        expected = [f().copy() for f in functions]

    def caller(seed):
        picks = np.random.default_rng(seed).integers(0, len(functions), calls)
        return sum(not np.array_equal(functions[i](), expected[i]) for i in picks)

    with ThreadPoolExecutor(threads) as pool:
        return sum(pool.map(caller, range(threads)))


def fork(children):
    """How many children did not compute what their parent did."""
    functions = works()
    expected = [f().copy() for f in functions]  # in parallel, where it is worth it
    failed = 0
    for i in range(children):
        pid = os.fork()
        if pid == 0:
            f, wanted = functions[i % len(functions)], expected[i % len(functions)]
            os._exit(0 if np.array_equal(f(), wanted) else 1)
        failed += os.waitpid(pid, 0)[1] != 0
    return failed


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=32)
    parser.add_argument("--calls", type=int, default=10_000, help="of each thread")
    parser.add_argument("--forks", type=int, default=1_000)
    args = parser.parse_args()
    start = time.perf_counter()
    wrong = call_from_threads(args.threads, args.calls)
    middle = time.perf_counter()
    dead = fork(args.forks) if hasattr(os, "fork") else 0
    print(
        f"{args.threads} threads x {args.calls} calls: {wrong} wrong results, {middle - start:.0f} s; "
        f"{args.forks} forks: {dead} failed, {time.perf_counter() - middle:.0f} s"
    )
    return 1 if wrong or dead else 0


if __name__ == "__main__":
    sys.exit(main())
