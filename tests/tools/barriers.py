"""Barriers in CUDA C: none too few, none for nothing. ``python -m tests.tools.barriers``, with g++, without a GPU.

Small computations with every source are correct on the simulated GPU, with threads in order and in reversed order, and
neither AddressSanitizer, UBSan nor ThreadSanitizer finds anything in them. Then each barrier is dropped in turn:
results must be wrong in one of the orders, or ThreadSanitizer find a race.
"""

import collections
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import traceback
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from fastnn import kernels
from tests.devices import OnNumpyArrays, simulate_gpu

ROOT = Path(__file__).resolve().parent.parent.parent
ROOM = ROOT / "kernels" / "cuda"

# ---- checks: those of one source have its name ----------------------------------------------------------------------


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
    from tests.kernels.test_optimizer import RULES, arrays, ref, update

    for rule in RULES:
        results = [
            update(room, rule, arrays(rule, [(30, 40), (5,)], "float32"), max_norm=0.5, steps=2) for room in (k, ref)
        ]
        for got, want in zip(*results, strict=True):
            np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-6)


def mlp(k):
    from tests.kernels import test_mlp

    test_mlp.check_training(k, *test_mlp.mlp(70, 40, 33, 10), 24, "float32", batches=2, max_norm=0.5)
    test_mlp.test_training_ends_before_the_batch_with_a_wrong_label(k)


def softmax(k):
    from fastnn.kernels import ref

    rng = np.random.default_rng(0)
    for shape in ((5, 6), (3, 8), (70, 40), (2, 1100), (2, 1101)):  # of lanes and of blocks, in groups of four and not
        x, dout = (rng.standard_normal(shape).astype("float32") for _ in range(2))
        for name in ("softmax", "log_softmax"):
            y, dx, *wanted = (np.empty_like(x) for _ in range(4))
            for room, (out, gradient) in ((k, (y, dx)), (ref, wanted)):
                getattr(room, f"{name}_forward")(x, out)
                getattr(room, f"{name}_backward")(dout, out, gradient)
            np.testing.assert_allclose((y, dx), wanted, rtol=1e-4, atol=1e-5)


def roofline(k):
    x = np.ones((2, 100), "float32")
    k.copy_to_and_fro(x, 2, np.empty_like(x))
    k.multiply_adds(x[0], 2, x[1])


def layers(k):
    """Every layer's launches; tests/test_device.py looks at their results."""
    from fastnn._warmup import EXAMPLES
    from fastnn.util import to_cpu, to_gpu

    rng = np.random.default_rng(0)
    for make, shape, labels in EXAMPLES.values():
        layer = make(lambda *shape: rng.standard_normal(shape, "float32")).to("cuda")
        x = rng.standard_normal(shape, "float32")
        y = layer.forward(to_gpu(x), *([] if labels is None else [to_gpu(labels(x))]))
        dx = layer.backward(to_gpu(rng.standard_normal(y.shape, "float32")) if labels is None else 1.0)
        assert np.isfinite(to_cpu(y)).all() and np.isfinite(to_cpu(dx)).all()


CHECKS = [mlp, _product, convolution, softmax_with_loss, batch_normalization, optimizer, layers, softmax, roofline]


# ---- processes ------------------------------------------------------------------------------------------------------

_SECONDS = 120  # for one check


class Way:
    """How a check is done: in order, in reversed order, or with sanitizers; by a process that forks one for each.

    They share what takes longest: importing what they need.
    """

    def __init__(self, name, environment, before=()):
        self.name, self._environment, self._before = name, environment, before
        self._of_thread, self._processes = threading.local(), []

    def close(self):
        for process in self._processes:
            process.stdin.close()
            process.wait()

    def __call__(self, check, drop=""):
        """What goes wrong in a check without a barrier; empty if nothing does. And the sources that took part."""
        process = getattr(self._of_thread, "process", None)
        if process is None:
            process = self._of_thread.process = subprocess.Popen(
                [*self._before, sys.executable, "-m", "tests.tools.barriers", "serve"],
                env={**os.environ, **self._environment},
                cwd=ROOT,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
            self._processes.append(process)
        print(json.dumps([check.__name__, drop]), file=process.stdin, flush=True)
        return json.loads(process.stdout.readline())


def sanitized(kind, library, options):
    """A way in which kernels are compiled with a sanitizer."""
    path = subprocess.check_output(["g++", f"-print-file-name={library}"], text=True).strip()
    environment = {"SIMULATOR_SANITIZE": kind, "LD_PRELOAD": path, f"{kind[0].upper()}SAN_OPTIONS": options}
    return Way(kind, environment, ["setarch", "-R"] if kind == "thread" else [])  # it knows the usual places only


def serve():
    """Do the checks named on stdin, each in a process of its own."""
    import hypothesis  # noqa: F401 (what the tests import, once for all)

    from fastnn import kernels, layers, models  # noqa: F401

    k = OnNumpyArrays(kernels.get("cuda"))
    for line in sys.stdin:
        name, drop = json.loads(line)
        with tempfile.TemporaryFile("w+") as said:
            child = os.fork()
            if child == 0:
                signal.alarm(_SECONDS)
                os.dup2(said.fileno(), 1)
                os.dup2(said.fileno(), 2)
                os.environ["SIMULATOR_DROP"] = drop
                try:
                    globals()[name](k)
                except BaseException:
                    traceback.print_exc()
                    sys.stderr.flush()
                    os._exit(1)
                print("\nsources:", *sys.modules["cupy"].loaded, flush=True)
                os._exit(0)
            status = os.waitpid(child, 0)[1]
            said.seek(0)
            text = said.read()
        sources = text.rpartition("\nsources:")[2].split()
        print(json.dumps(["" if status == 0 else text[-3000:] or f"status {status}", sources]), flush=True)


def mutants():
    """By the text around a barrier: the checks of which one must notice, and what is dropped in each of them."""
    launch, cupy, found = kernels.get("cuda")._launch, sys.modules["cupy"], collections.defaultdict(list)
    for check in CHECKS:
        if not (ROOM / f"{check.__name__}.cu").exists():
            continue
        text = launch.source(check.__name__)
        for i, barrier in enumerate(cupy.BARRIER.finditer(text)):
            around = text[max(0, barrier.start() - 200) : barrier.end() + 200]
            found[around].append((check, f"{cupy.KERNEL.findall(text)[0]}:{i}"))
    return found


def main():
    orders = [Way("in order", {}), Way("in reversed order", {"SIMULATOR_ORDER": "reversed"})]
    address = sanitized("address", "libasan.so", "detect_leaks=0:detect_stack_use_after_return=0")
    thread = sanitized("thread", "libtsan.so", "exitcode=66")
    launch, first_of = kernels.get("cuda")._launch, sys.modules["cupy"].KERNEL.search
    sources = {first_of(launch.source(path.stem))[1] for path in ROOM.glob("*.cu")}
    failed = 0

    def fails(job):
        check, way = job
        return way(check)

    def noticed(drops):
        return any(way(check, drop)[0] for way in (*orders, thread) for check, drop in drops)

    with ThreadPoolExecutor(os.cpu_count()) as threads:
        jobs = [(check, way) for way in (address, thread, *orders) for check in CHECKS]
        did = collections.defaultdict(set)
        for (check, way), (problem, loaded) in zip(jobs, threads.map(fails, jobs), strict=True):
            did[way.name].update(loaded)
            if problem:
                failed += 1
                print(f"{check.__name__}, {way.name}:\n{problem}")
        for way, loaded in did.items():
            if missing := sources - loaded:
                failed += 1
                print(f"{way}: nothing ran of the source of {', '.join(sorted(missing))}")
        barriers = mutants()
        for (around, drops), found in zip(barriers.items(), threads.map(noticed, barriers.values()), strict=True):
            if not found:
                failed += 1
                print(f"nothing misses the barrier in the middle of this ({drops[0][1]}):\n{around}")
    for way in (*orders, address, thread):
        way.close()
    print(f"{len(jobs)} runs of {len(sources)} sources, {len(barriers)} barriers dropped, {failed} failures")
    return failed


if __name__ == "__main__":
    if unusable := simulate_gpu():
        raise SystemExit(unusable)
    raise SystemExit(serve() if sys.argv[1:] == ["serve"] else bool(main()))
