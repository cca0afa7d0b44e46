"""Barriers in CUDA C: none too few, none for nothing. ``python -m tests.tools.barriers``, with g++, without a GPU.

Small computations with every source that has barriers are correct on the simulated GPU, with threads in order and in
reversed order, and neither AddressSanitizer, UBSan nor ThreadSanitizer finds anything in them. Then each barrier is
dropped in turn: results must be wrong in one of the orders, or ThreadSanitizer find a race.
"""

import collections
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from tests.devices import OnNumpyArrays, simulate_gpu

ROOT = Path(__file__).resolve().parent.parent.parent


def _product(k):
    from tests.kernels.test_affine import check

    for shape in ((17, 40, 33), (70, 12, 66), (130, 12, 130)):  # a kernel each
        check(k, *shape, "rows", "float32")


def softmax_with_loss(k):
    from tests.kernels.test_softmax_with_loss import check

    rng = np.random.default_rng(0)
    x, weight = rng.standard_normal((3, 1100)).astype("float32"), rng.random(1100).astype("float32")
    check(k, x, np.array([5, 1099, 0]), weight, 0.1, tolerance=5)


def batch_normalization(k):
    from tests.kernels.test_batch_normalization import assert_close, inputs, ref, run

    for shape in ((40, 3), (70, 3, 20)):
        case = inputs(shape, "float32")
        assert_close(run(k, *case), run(ref, *(a.astype("float64") for a in case)), "float32", scale=3)


def convolution(k):
    from tests.kernels.test_convolution import Geometry, check

    for geometry in (Geometry(1, 20, 40, (5, 5)), Geometry(1, 5, 70, (6, 6)), Geometry(2, 6, 4, (12, 12))):
        check(k, geometry, "float32")


def optimizer(k):
    from tests.kernels.test_optimizer import arrays, ref, update

    results = [
        update(room, "sgd", arrays("sgd", [(30, 40), (5,)], "float32"), max_norm=0.5, steps=2) for room in (k, ref)
    ]
    for got, want in zip(*results, strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-6)


def mlp(k):
    from tests.kernels import test_mlp

    test_mlp.check_training(k, *test_mlp.mlp(70, 40, 33, 10), 40, "float32", batches=2, max_norm=0.5)
    test_mlp.test_training_ends_before_the_batch_with_a_wrong_label(k)


CHECKS = [_product, softmax_with_loss, batch_normalization, convolution, optimizer, mlp]


def sanitized(kind, library, options):
    """Environment, and beginning of the command, in which kernels are compiled with a sanitizer."""
    path = subprocess.check_output(["g++", f"-print-file-name={library}"], text=True).strip()
    environment = {"SIMULATOR_SANITIZE": kind, "LD_PRELOAD": path, f"{kind[0].upper()}SAN_OPTIONS": options}
    return environment, ["setarch", "-R"] if kind == "thread" else []  # it knows the usual places of memory only


def problem(check, environment, before):
    """What goes wrong in a check; empty if nothing does."""
    command = [*before, sys.executable, "-m", "tests.tools.barriers", check.__name__]
    done = subprocess.run(command, env={**os.environ, **environment}, cwd=ROOT, capture_output=True, text=True)
    return "" if done.returncode == 0 else (done.stdout + done.stderr)[-3000:] or f"exit status {done.returncode}"


def mutants():
    """By the text around a barrier: the checks of which one must notice, and what is dropped in each of them."""
    from fastnn import kernels

    launch, cupy, found = kernels.get("cuda")._launch, sys.modules["cupy"], collections.defaultdict(list)
    for check in CHECKS:
        text = launch.source(check.__name__)
        for i, barrier in enumerate(cupy.BARRIER.finditer(text)):
            around = text[max(0, barrier.start() - 200) : barrier.end() + 200]
            found[around].append((check, f"{cupy.KERNEL.findall(text)[0]}:{i}"))
    return found


def main():
    thread = sanitized("thread", "libtsan.so", "exitcode=66")
    address = sanitized("address", "libasan.so", "detect_leaks=0:detect_stack_use_after_return=0")
    orders = [({}, []), ({"SIMULATOR_ORDER": "reversed"}, [])]
    failed = 0
    with ThreadPoolExecutor(os.cpu_count()) as threads:
        every = [(check, *way) for check in CHECKS for way in (*orders, address, thread)]
        for (check, environment, _), found in zip(every, threads.map(lambda job: problem(*job), every), strict=True):
            if found:
                failed += 1
                print(f"{check.__name__} {environment} fails:\n{found}")

        def noticed(drops):
            return any(
                problem(check, {**environment, "SIMULATOR_DROP": drop}, before)
                for check, drop in drops
                for environment, before in (*orders, thread)
            )

        barriers = mutants()
        for (around, drops), found in zip(barriers.items(), threads.map(noticed, barriers.values()), strict=True):
            if not found:
                failed += 1
                print(f"nothing misses the barrier in the middle of this ({drops[0][1]}):\n{around}")
    print(f"{len(CHECKS)} checks, {len(barriers)} barriers, {failed} failures")
    return failed


if __name__ == "__main__":
    if unusable := simulate_gpu():
        raise SystemExit(unusable)
    if len(sys.argv) > 1:
        from fastnn import kernels

        globals()[sys.argv[1]](OnNumpyArrays(kernels.get("cuda")))
    else:
        raise SystemExit(bool(main()))
