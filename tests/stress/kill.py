"""Kill a process while it saves, a thousand times: what is on disk is the old file or the new one, bit by bit.

python -m tests.stress.kill [--kills 1000]
"""

import argparse
import os
import random
import signal
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from fastnn.serialize import load_arrays, save_arrays

SHAPE = (400, 500)


def version(n):
    """The weights of save number n: every element tells n."""
    return {"W1": np.full(SHAPE, n, "f4"), "b1": np.full(SHAPE[1], n, "f4")}


def save_for_ever(path, first):
    for n in range(first, first + 2**20):
        save_arrays(path, version(n), dtype=None)


def check(path):
    """Which version is on disk; an AssertionError if it is none."""
    arrays = load_arrays(path)
    n = int(arrays["b1"][0])
    for name, wanted in version(n).items():
        assert arrays[name].dtype == wanted.dtype and np.array_equal(arrays[name], wanted), f"{name} of version {n}"
    return n


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=1_000)
    kills = parser.parse_args().kills
    random.seed(0)
    start = time.perf_counter()
    saved = 0
    with tempfile.TemporaryDirectory() as folder:
        for extension in (".safetensors", ".npz"):
            path, last = Path(folder, f"weights{extension}"), 0
            save_arrays(path, version(0), dtype=None)
            for _ in range(kills // 2):
                pid = os.fork()
                if pid == 0:
                    save_for_ever(path, last + 1)
                time.sleep(random.uniform(0, 0.02))
                os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, 0)
                n = check(path)
                assert n >= last, f"version {n} after {last}"
                saved, last = saved + n - last, n
        stray = len(list(Path(folder).glob(".fastnn-*.tmp")))
    seconds = time.perf_counter() - start
    print(f"{kills} kills during {saved} saves, {stray} of them amid one: every file whole; {seconds:.0f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
