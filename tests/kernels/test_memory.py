"""Memory: kernels keep to that of their arrays; where there is none for scratch, they raise, and do not just return."""

import ast
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

CALLS_WITH_LITTLE_MEMORY = """
    import contextlib, resource, zlib
    from pathlib import Path
    import numpy as np
    import fastnn
    from fastnn.kernels import cpu

    rng = np.random.default_rng(0)
    shapes = (64, 640), (640, 320), (64, 320), (2, 32, 28, 28), (32, 32, 3, 3), (320,), (32,)
    x, W, dout, images, filters, b, b_F = (rng.standard_normal(shape, "f4") for shape in shapes)
    out, dW, _, out_images, dfilters, db, db_F = map(np.empty_like, (dout, W, dout, images, filters, b, b_F))
    geometry = (1, 1), (1, 1), (1, 1)
    calls = {
        "affine": (cpu.affine_forward, (x, W, b), (out,)),
        "its gradients": (cpu.affine_backward_params, (x, dout), (dW, db)),
        "convolution": (cpu.convolution_forward, (images, filters, b_F, *geometry), (out_images,)),
        "its gradients, too": (cpu.convolution_backward_params, (images, images, *geometry), (dfilters, db_F)),
    }

    def result(kernel, inputs, outputs):
        for array in outputs:
            array.fill(np.nan)
        try:
            kernel(*inputs, *outputs)
        except MemoryError:
            return "MemoryError"
        return [zlib.crc32(array) for array in outputs]  # takes no memory

    for call in calls.values():
        with fastnn.threads(1):  # loads what Numba has for it
            result(*call)
    right = {name: result(*call) for name, call in calls.items()}  # compiled, now called past Numba's dispatcher
    bound = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (bound + (16 << 20), resource.RLIM_INFINITY))
    found, taken = {name: set() for name in calls}, []
    for size in (1 << 20, 1 << 15):
        with contextlib.suppress(MemoryError):
            while True:
                taken.append(bytearray(size))
    while True:
        for threads in {1, fastnn.get_num_threads()}:
            with fastnn.threads(threads):
                for name, call in calls.items():
                    got = result(*call)
                    found[name].add("right" if got == right[name] else "wrong" if isinstance(got, list) else got)
        if not taken:
            break
        taken.pop()
    print(found)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="bounds memory as Linux does")
def test_scratch_memory():
    command = [sys.executable, "-c", textwrap.dedent(CALLS_WITH_LITTLE_MEMORY)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.stderr == ""
    assert all(found == {"MemoryError", "right"} for found in ast.literal_eval(done.stdout).values())


@pytest.mark.skipif(sys.platform != "linux", reason="protects pages as Linux does")
def test_nothing_beyond_an_array_is_touched():
    """A few trials of the stress test, which ends where that happens, in a process of its own."""
    command = [sys.executable, "-m", "tests.stress.guard", "--trials", "40", "--only", "affine"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, cwd=ROOT)
    assert done.returncode == 0, done.stdout + done.stderr
