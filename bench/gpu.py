"""fastnn on a GPU against CuPy's own functions and PyTorch, and against the GPU's limits.

``python -m bench.gpu [--out FILE.json] [--small]``; bench/gpu.sh runs it after the tests. Each result is checked
against float64 before it is timed; contestants take turns in one process; a time is the median of the rounds, of calls
that follow one another and are waited for together. Without PyTorch only CuPy competes.
"""

from __future__ import annotations

import argparse
import dataclasses
import itertools
import json
import math
import os
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

import fastnn
from bench.machine import commit
from fastnn import kernels
from fastnn._captured import CapturedStep
from fastnn._device import waiter
from fastnn._system import gpu
from fastnn._timing import Contestant, interleave
from fastnn.compiled import CompiledStep
from fastnn.layers import Affine, Convolution, Relu, Sigmoid, SoftmaxWithLoss
from fastnn.models import MultiLayerNet
from fastnn.optimizer import SGD
from fastnn.util import to_cpu, to_gpu

Call = Callable[[], Any]


@dataclasses.dataclass
class Case:
    """Contestants that do the same: the first is fastnn.

    Attributes
    ----------
    name : str
    contestants : dict of str to callable
    expected : ndarray or None
        What each of them returns, in float64; None where they train, and results differ from call to call.
    tolerance : float
        Relative to the largest element of `expected`.
    flops, nbytes : float
        What has to be computed and moved.
    per_call : int
        So many units, such as steps of an epoch, are one call of those whose names end in "epoch".
    """

    name: str
    contestants: dict[str, Call]
    expected: np.ndarray | None = None
    tolerance: float = 1e-5
    flops: float = 0.0
    nbytes: float = 0.0
    per_call: int = 1

    def check(self) -> None:
        """Raise AssertionError where a contestant returns something else."""
        if self.expected is None:
            return
        size = np.abs(self.expected).max()
        for name, call in self.contestants.items():
            error = np.abs(_numpy(call()) - self.expected).max() / size
            assert error < self.tolerance, f"{self.name}: {name} is off by {error:.1e}"


def _numpy(result: Any) -> np.ndarray:
    return to_cpu(result.detach() if hasattr(result, "detach") else result)


def torch_or_none() -> Any:
    """PyTorch, if it is installed with a GPU to use; float32 products are then computed in float32, not TF32."""
    try:
        import torch
    except ImportError:
        return None
    if not torch.cuda.is_available():
        return None
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    return torch


# ---- cases ----------------------------------------------------------------------------------------------------------


def softmax_with_loss(xp: Any, torch: Any, rows: int, classes: int) -> Case:
    """Loss and gradient: the scores once in, the gradient once out."""
    rng = np.random.default_rng(0)
    x, t = rng.standard_normal((rows, classes), "float32"), rng.integers(0, classes, rows)
    expected = x.astype("float64")
    expected = np.exp(expected - expected.max(1, keepdims=True))
    expected /= expected.sum(1, keepdims=True)
    expected[np.arange(rows), t] -= 1
    expected /= rows
    x, t, layer = to_gpu(x), to_gpu(t), SoftmaxWithLoss()

    def ours() -> Any:
        layer.forward(x, t)
        return layer.backward()

    def cupy() -> Any:
        y = xp.exp(x - x.max(axis=1, keepdims=True))
        y /= y.sum(axis=1, keepdims=True)
        loss = -xp.log(y[xp.arange(rows), t]).mean()
        y[xp.arange(rows), t] -= 1
        y /= rows
        return y if loss is not None else None

    contestants: dict[str, Call] = {"fastnn": ours, "cupy": cupy}
    if torch:
        scores, labels = torch.as_tensor(x, device="cuda").requires_grad_(), torch.as_tensor(t, device="cuda")

        def eager() -> Any:
            return torch.autograd.grad(torch.nn.functional.cross_entropy(scores, labels), scores)[0]

        loss = torch.compile(torch.nn.functional.cross_entropy)
        contestants |= {
            "torch": eager,
            "torch compiled": lambda: torch.autograd.grad(loss(scores, labels), scores)[0],
        }
    return Case(f"softmax_with_loss {rows}x{classes}", contestants, expected, nbytes=2.0 * x.nbytes)


def elementwise(xp: Any, torch: Any, kind: str, n: int) -> Case:
    """An activation forward, into memory that is there."""
    x = np.random.default_rng(0).standard_normal(n, "float32")
    layer: Any = {"relu": Relu, "sigmoid": Sigmoid}[kind]()
    wide = x.astype("float64")
    expected = np.maximum(wide, 0) if kind == "relu" else 1 / (1 + np.exp(-wide))
    x = to_gpu(x)
    out = xp.empty_like(x)
    contestants: dict[str, Call] = {
        "fastnn": lambda: layer.forward(x, out=out),
        "cupy": (lambda: xp.maximum(x, 0, out=out)) if kind == "relu" else lambda: 1 / (1 + xp.exp(-x)),
    }
    if torch:
        tensor = torch.as_tensor(x, device="cuda")
        contestants["torch"] = lambda: getattr(torch, kind)(tensor)
    return Case(f"{kind} {n:.0e}", contestants, expected, nbytes=2.0 * x.nbytes)


def affine(xp: Any, torch: Any, n: int, dtype: str) -> Case:
    """x · W + b of square matrices; CuPy's product is cuBLAS's."""
    rng = np.random.default_rng(0)
    x, W, b = (rng.standard_normal(shape).astype(dtype) for shape in ((n, n), (n, n), (n,)))
    expected = x.astype("float64") @ W.astype("float64") + b
    flops, layer = 2.0 * n**3, Affine(W, b).to("cuda")
    x, W, b = map(to_gpu, (x, W, b))
    contestants: dict[str, Call] = {"fastnn": lambda: layer.forward(x), "cupy": lambda: xp.matmul(x, W) + b}
    if torch:
        tensors = [torch.as_tensor(a, device="cuda") for a in (b, x, W)]
        contestants["torch"] = lambda: torch.addmm(*tensors)
    tolerance = (1e-5 if dtype == "float32" else 1e-13) * math.sqrt(n)
    return Case(f"affine {n}³ {dtype}", contestants, expected, tolerance, flops=flops)


def convolution(xp: Any, torch: Any, N: int, C: int, F: int, size: int) -> Case:
    """Forward, 3x3, padded; PyTorch's is cuDNN's. CuPy has none."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((N, C, size, size), "float32")
    W, b = rng.standard_normal((F, C, 3, 3), "float32"), rng.standard_normal(F, "float32")
    ref = kernels.get("ref")
    expected = np.empty((N, F, size, size))
    ref.convolution_forward(*(a.astype("float64") for a in (x, W, b)), (1, 1), (1, 1), (1, 1), expected)
    layer, x = Convolution(W, b, pad=1).to("cuda"), to_gpu(x)
    contestants: dict[str, Call] = {"fastnn": lambda: layer.forward(x)}
    if torch:
        tensors = [torch.as_tensor(a, device="cuda") for a in (x, layer.W, layer.b)]
        contestants["torch"] = lambda: torch.nn.functional.conv2d(*tensors, padding=1)
    return Case(f"convolution {C}->{F} 3x3 {size}² N={N}", contestants, expected, 1e-4, flops=18.0 * C * expected.size)


def step(xp: Any, torch: Any, sizes: tuple[int, ...], batch: int, steps: int) -> Case:
    """Training steps by one kernel and by a CUDA graph, one by one and a whole epoch in one call; and by the layers."""
    rng = np.random.default_rng(0)
    x = to_gpu(rng.standard_normal((steps * batch, sizes[0]), "float32"))
    t = to_gpu(rng.integers(0, sizes[-1], steps * batch))

    def model() -> MultiLayerNet:
        return MultiLayerNet(sizes[0], sizes[1:-1], sizes[-1], rng=0).to("cuda")

    contestants: dict[str, Call] = {}
    for name, way in {"one launch": CompiledStep, "graph": CapturedStep}.items():
        single, whole = (way(model(), SGD(0.01)) for _ in range(2))
        contestants[f"fastnn {name}"] = partial(single, x[:batch], t[:batch])
        contestants[f"fastnn {name} epoch"] = partial(whole.epoch, x, t, batch, rng=0)
    net, rule = model(), SGD(0.01)

    def by_layers() -> None:
        net.forward(x[:batch], t[:batch])
        net.backward(input_gradient=False)
        rule.update(net.params, net.grads)

    contestants["fastnn layers"] = by_layers
    if torch:
        contestants |= _torch_steps(torch, x[:batch], t[:batch], sizes)
    name = f"step {'-'.join(map(str, sizes))} batch {batch}"
    products = sum(D * F for D, F in itertools.pairwise(sizes))
    return Case(name, contestants, flops=2.0 * batch * (3 * products - sizes[0] * sizes[1]), per_call=steps)


def _torch_steps(torch: Any, x: Any, t: Any, sizes: tuple[int, ...]) -> dict[str, Call]:
    from fastnn._backends import torch_model, torch_step

    params = [(np.zeros((D, F), "float32"), np.zeros(F, "float32")) for D, F in itertools.pairwise(sizes)]
    x, t = torch.as_tensor(x, device="cuda"), torch.as_tensor(t, device="cuda")
    calls = [torch_step(torch_model(params, "relu").cuda(), x, t, 0.01) for _ in range(3)]
    side = torch.cuda.Stream()
    with torch.cuda.stream(side):
        for _ in range(3):
            calls[2]()
    side.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        calls[2]()
    return {"torch": calls[0], "torch compiled": torch.compile(calls[1]), "torch CUDA graph": graph.replay}


def cases(xp: Any, torch: Any, small: bool) -> Iterator[Case]:
    """All of them, made one after the other: memory is given back between."""
    for rows, classes in [(8, 40), (4, 3000)] if small else [(65536, 1024), (16384, 32768), (4096, 131072)]:
        yield softmax_with_loss(xp, torch, rows, classes)
    for kind in ("relu", "sigmoid"):
        yield elementwise(xp, torch, kind, 1000 if small else 10**8)
    for n in [40] if small else [1024, 4096]:
        for dtype in ("float32", "float64"):
            yield affine(xp, torch, n, dtype)
    yield convolution(xp, torch, *((2, 3, 4, 6) if small else (128, 64, 64, 56)))
    sizes = [(20, 8, 3)] if small else [(784, 50, 10), (784, 100, 100, 10), (784, 512, 512, 10), (2, 10, 3)]
    for layers in sizes:
        yield step(xp, torch, layers, 5 if small else 100, 4 if small else 600)


def mnist(small: bool) -> dict[str, Any]:
    """16 epochs of 784-50-10 on MNIST; where its files are not at hand, on as many random images."""
    from fastnn.dataset.mnist import load_mnist

    source, n = "random images", 50 if small else 60_000
    rng = np.random.default_rng(0)
    x, t = rng.random((n, 784), "float32"), rng.integers(0, 10, n)
    if not small and os.environ.get("FASTNN_DATA_DIR"):
        (x, t), _ = load_mnist()
        source = "MNIST"
    net = MultiLayerNet(784, [50], 10, rng=0).to("cuda")
    train, x, t = fastnn.compile(net, SGD(0.1)), to_gpu(x.astype("float32")), to_gpu(t)
    train.epoch(x, t, 100, rng=0)
    waiter("cuda")()
    start = time.perf_counter()
    for epoch in range(16):
        losses = train.epoch(x, t, 100, rng=epoch)
    loss = float(losses.mean())
    return {"data": source, "seconds": time.perf_counter() - start, "loss": loss, "accuracy": net.accuracy(x, t)}


# ---- results --------------------------------------------------------------------------------------------------------


def measure(case: Case, rounds: int) -> dict[str, Any]:
    """Seconds of each contestant, and what those of fastnn amount to."""
    case.check()
    wait = waiter("cuda")
    contestants = {name: Contestant(call, wait, spins=False) for name, call in case.contestants.items()}
    interleave(list(contestants.values()), rounds)
    seconds = {name: c.median / (case.per_call if name.endswith("epoch") else 1) for name, c in contestants.items()}
    return {"case": case.name, "seconds": seconds, "flops": case.flops, "bytes": case.nbytes}


def describe(record: dict[str, Any], roofline: fastnn.Roofline) -> str:
    """One line: the times, the ratio to the best peer, and the share of the limit."""
    seconds = record["seconds"]
    ours = min(s for name, s in seconds.items() if name.startswith("fastnn"))
    peers = [s for name, s in seconds.items() if not name.startswith("fastnn")]
    times = ", ".join(f"{name} {1e6 * s:.1f} µs" for name, s in seconds.items())
    ratio = f"; best peer / fastnn {min(peers) / ours:.2f}" if peers else ""
    limit = ""
    if record["bytes"]:
        limit = f"; {record['bytes'] / ours / roofline.copy:.0%} of copy bandwidth"
    elif record["flops"]:
        peak = roofline.flops["float64" if "float64" in record["case"] else "float32"]
        limit = f"; {record['flops'] / ours / peak:.0%} of FMA peak"
    return f"{record['case']}: {times}{ratio}{limit}"


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.gpu", description=__doc__.partition("\n")[0])
    parser.add_argument("--out", type=Path, help="JSON file; bench/results/gpu-NAME.json by default")
    parser.add_argument("--small", action="store_true", help="tiny sizes: to try whether all of it runs")
    args = parser.parse_args(argv)
    if problem := kernels.gpu_problem():
        parser.exit(1, f"bench.gpu: no GPU to compute on: {problem}\n")
    xp, torch = kernels.get("cuda").xp, torch_or_none()
    limits = fastnn.Roofline(1, {"float32": 1.0, "float64": 1.0}, 1.0, 1.0) if args.small else fastnn.roofline("cuda")
    name = gpu()
    packages = ("cupy-cuda12x", "cupy-cuda13x", "torch", "numpy")
    result: dict[str, Any] = {
        "gpu": name,
        "date": time.strftime("%Y-%m-%d"),
        "commit": commit(),
        "versions": {package: _version(package) for package in packages},
        "roofline": dataclasses.asdict(limits),
        "cases": [],
    }
    for case in tqdm(cases(xp, torch, args.small), unit="case", disable=None):
        record = measure(case, 1 if args.small else 15)
        result["cases"].append(record)
        tqdm.write(describe(record, limits))
    result["mnist"] = mnist(args.small)
    print(f"16 epochs of {result['mnist']['data']}: {result['mnist']['seconds']:.3f} s")
    safe = "".join(c if c.isalnum() else "-" for c in name.lower()).strip("-")
    out = args.out or Path(__file__).parent / "results" / f"gpu-{safe}.json"
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(result, indent=1) + "\n")
    print(f"wrote {out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
