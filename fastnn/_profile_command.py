"""``fastnn profile``: how many samples a second, by batch size, dtype, mode and library; where a step's time goes."""

import argparse
import contextlib
import dataclasses
import importlib
import itertools
import json
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ._arguments import UsageError, batch_sizes, integer, layer_sizes, output_folder, positive, some_of

if TYPE_CHECKING:
    from ._layer_times import LayerTime
    from .profiling import Point, Run, ThroughputProfile

LR = 1e-6  # so small that parameters stay as they are, however often the step is repeated
# option: what it may name, what it names if not given
LISTS = {
    "--dtype": (("float32", "float64"), "float32,float64"),
    "--mode": (("predict", "train"), "predict,train"),
    "--device": (("cpu", "cuda"), "cpu"),
    "--backend": (("fastnn", "numpy", "torch"), "fastnn"),
}


def add_parser(commands: Any) -> None:
    """Say what the command takes."""
    parser = commands.add_parser(
        "profile",
        help="throughput against batch size; with --layers where a step's time goes",
        description="Measure a multi-layer perceptron in batches of many sizes, and find the smallest that is fast.",
    )
    add = parser.add_argument
    add("--model", type=layer_sizes, metavar="SIZES", help="units of its layers; default 784-50-10")
    add("--weights", metavar="FILE", help="parameters of a saved network (.safetensors, .npz or .pkl)")
    add("--activation", choices=["relu", "sigmoid"], default="relu", help="between layers; default %(default)s")
    add(
        "--batch-sizes", type=batch_sizes, metavar="LIST", default="1:4096",
        help="such as 1,10,100; 1:4096, the default, are powers of two",
    )  # fmt: skip
    for option, (among, default) in LISTS.items():
        add(option, type=some_of(among), default=default, metavar="LIST", help=f"{','.join(among)}; default {default}")
    add("--latency-ms", type=positive, metavar="MS", help="name the best batch that takes no longer than this")
    add("--rounds", type=integer(1), default=15, metavar="N", help="measurements of each; default %(default)s")
    add("--layers", action="store_true", help="instead: each layer's time in one step, forward and backward")
    add("--batch", type=integer(1), default=100, metavar="N", help="samples in the step of --layers; default 100")
    add("--out", metavar="DIR", default="fastnn-output", help="for JSON, CSV and PNG; default %(default)s")
    add("--no-plot", action="store_true", help="draw nothing")


def run(args: argparse.Namespace) -> int:
    """Do what the command line asks for."""
    params, activation = _parameters(args), args.activation
    name = "-".join(map(str, [params[0][0].shape[0], *(b.size for _, b in params)])) + f" {activation}"
    if args.layers:
        if args.device != ["cpu"]:
            raise UsageError(f"--layers: measures on cpu only, got --device {','.join(args.device)}")
        for dtype in args.dtype:
            _print_layers(name, params, dtype, args)
        return 0
    _make_folder(args)
    devices, problems = _usable(args.device)
    if "torch" in args.backend:
        _import_torch()
    from .profiling import measure

    runs = [
        _run(name, params, mode, dtype, backend, device, activation)
        for device in devices
        for mode in args.mode
        for backend in args.backend
        for dtype in args.dtype
        if (backend, device) != ("numpy", "cuda")
    ]
    with _progress(len(runs) * len(args.batch_sizes) * args.rounds) as tell:
        profiles = measure(runs, args.batch_sizes, args.rounds, tell)
    print("\n".join([*_describe(profiles, args.latency_ms), *problems]))
    for path in _write(Path(args.out), name, profiles, not args.no_plot):
        print(f"wrote {path}")
    return 0


# --- what is measured -------------------------------------------------------------------------------------------------


def _parameters(args: argparse.Namespace) -> list[tuple[Any, Any]]:
    """(W, b) of each layer: those of the file, or random ones."""
    sizes = args.model
    if args.weights is None:
        rng, sizes = np.random.default_rng(0), sizes or (784, 50, 10)
        pairs = itertools.pairwise(sizes)
        return [(np.sqrt(2 / D) * rng.standard_normal((D, F)), np.zeros(F)) for D, F in pairs]
    from .serialize import load_arrays

    if not Path(args.weights).is_file():
        raise UsageError(f"--weights: no file '{args.weights}'")
    arrays = list(load_arrays(args.weights).values())
    params = list(zip(arrays[::2], arrays[1::2], strict=False))
    shapes = [(W.shape, b.shape) for W, b in params]
    follows = all(b[1:] == () and W[1:] == b for W, b in shapes) and all(
        before[1] == after[0][:1] for before, after in itertools.pairwise(shapes)
    )
    if not params or len(arrays) % 2 or not follows:
        found = ", ".join(str(a.shape) for a in arrays[:6])
        raise UsageError(f"--weights: expected W1, b1, W2, b2, ... of affine layers, {args.weights} has shapes {found}")
    held = (params[0][0].shape[0], *(b.size for _, b in params))
    if sizes and sizes != held:
        raise UsageError(f"--model: expected {'-'.join(map(str, held))} as in {args.weights}")
    return params


def _usable(devices: Sequence[str]) -> tuple[list[str], list[str]]:
    """The devices that can be used, and what is to be said of the others."""
    from . import kernels

    usable, problems = [], []
    for device in devices:
        try:
            kernels.get(device)
            usable.append(device)
        except RuntimeError:
            problems.append(f"{device}: n/a, {kernels.gpu_problem()}")
    if not usable:
        raise UsageError(f"--device {problems[0]}")
    return usable, problems


def _import_torch() -> None:
    """Before Numba: loaded after it, PyTorch would share its OpenMP, and its settings, in place of its own."""
    try:
        importlib.import_module("torch")
    except ImportError:
        raise UsageError("--backend torch: PyTorch is not installed") from None


def _run(
    name: str, params: list[tuple[Any, Any]], mode: str, dtype: str, backend: str, device: str, activation: str
) -> "Run":
    from ._backends import BACKENDS
    from ._device import to_cpu, to_gpu, waiter
    from .profiling import Run

    library, place = BACKENDS[backend], to_gpu if device == "cuda" else to_cpu

    def prepare(batch: int) -> Callable[[], Any]:
        rng = np.random.default_rng(0)
        own = [(place(W.astype(dtype)), place(b.astype(dtype))) for W, b in params]
        x = place(rng.random((batch, len(own[0][0])), "float32").astype(dtype))
        if mode == "predict":
            return partial(library.predictor(own, batch, activation), x)
        t = place(rng.integers(own[-1][1].size, size=batch))
        return partial(library.step(own, x, t, activation, LR))

    products = [2.0 * W.size for W, _ in params]
    flops = sum(products) if mode == "predict" else 3 * sum(products) - products[0]  # no gradient for the data
    traced = backend != "torch" and device == "cpu"
    return Run(name, mode, dtype, backend, device, prepare, flops, traced, waiter(device))


@contextlib.contextmanager
def _progress(total: int) -> Iterator[Callable[[], Any]]:
    """A bar on stderr, where that is a terminal."""
    from tqdm import tqdm

    with tqdm(total=total, unit="turn", disable=None, leave=False, dynamic_ncols=True) as bar:
        yield lambda: bar.update() if bar.n < total else None  # rounds in which the machine was busy are done again


# --- what comes out -----------------------------------------------------------------------------------------------


def _describe(profiles: "Sequence[ThroughputProfile]", latency_ms: float | None) -> Iterator[str]:
    """A table for each profile, what follows from it, and from all of them together."""
    limits = profiles[0].roofline
    yield (
        f"{profiles[0].name}; {limits.threads} threads; FMA peak {limits.flops['float32'] / 1e9:.0f} GFLOP/s in "
        f"float32, {limits.flops['float64'] / 1e9:.0f} in float64; copy {limits.copy / 1e9:.1f} GB/s"
    )
    if max(p.others for p in profiles) > 0.05:
        yield f"The machine was busy: other processes used {max(p.others for p in profiles):.0%} of a CPU."
    for p in profiles:
        yield f"\n{p.label}"
        yield from _columns(
            ["batch", "µs", "95 % interval", "samples/s", "GFLOP/s", "of peak", "memory"],
            [[str(q.batch), _us(q.seconds), f"{_us(q.low)} - {_us(q.high)}", *_rates(p, q)] for q in p.points],
        )
        yield f"knee: {_point(p.knee())}, {p.knee().throughput / _best(p).throughput:.0%} of the best"
        if latency_ms is not None:
            best = p.best(latency_ms)
            yield f"best within {latency_ms:g} ms: {_point(best) if best else 'no batch is so fast'}"
    yield from _gains(profiles)


def _gains(profiles: "Sequence[ThroughputProfile]") -> Iterator[str]:
    """float32 against float64; from which batch on one backend or device is faster than the first."""
    yield ""
    for p in profiles:
        for q in profiles:
            same = (p.mode, p.backend, p.device) == (q.mode, q.backend, q.device)
            if same and (p.dtype, q.dtype) == ("float32", "float64"):
                gain = _best(p).throughput / _best(q).throughput
                yield f"{p.backend} {p.mode}, {p.device}: float32 has {gain:.2f} times the throughput of float64"
    for q in profiles:
        first = next(p for p in profiles if (p.mode, p.dtype) == (q.mode, q.dtype))
        if q is not first:
            where = crossover(first, q)
            verdict = "at no batch size" if where is None else f"from batch {where} on"
            yield f"{q.label}: faster than {first.label} {verdict}"


def crossover(first: "ThroughputProfile", second: "ThroughputProfile") -> int | None:
    """The batch size from which on the second is faster than the first, up to the largest; None where there is none."""
    where = None
    for p, q in zip(first.points, second.points, strict=True):
        if q.seconds >= p.seconds:
            where = None
        elif where is None:
            where = p.batch
    return where


def _best(p: "ThroughputProfile") -> "Point":
    return max(p.points, key=lambda q: q.throughput)


def _rates(p: "ThroughputProfile", q: "Point") -> list[str]:
    of_peak = p.of_peak(q)
    return [
        f"{q.throughput:,.0f}",
        f"{q.flops / q.seconds / 1e9:.1f}",
        "n/a" if of_peak is None else f"{of_peak:.0%}",
        "n/a" if q.memory is None else f"{q.memory / 1e3:,.0f} kB",
    ]


def _point(q: "Point") -> str:
    return f"batch {q.batch}, {_us(q.seconds)} µs, {q.throughput:,.0f} samples/s"


def _us(seconds: float) -> str:
    us = 1e6 * seconds
    return f"{us:,.0f}" if us >= 100 else f"{us:.1f}"


def _columns(head: list[str], rows: list[list[str]]) -> Iterator[str]:
    widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
    for row in (head, *rows):
        yield "  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True))


def _make_folder(args: argparse.Namespace) -> None:
    if not args.no_plot:
        from ._figures import require_matplotlib

        require_matplotlib()
    output_folder("--out", args.out)


def _write(out: Path, name: str, profiles: "Sequence[ThroughputProfile]", plot: bool) -> Iterator[Path]:
    from .profiling import to_csv

    texts = {
        "profile.json": json.dumps([dataclasses.asdict(p) for p in profiles], indent=1),
        "profile.csv": to_csv(profiles),
    }
    for file, text in texts.items():
        (out / file).write_text(text, encoding="utf-8")
        yield out / file
    if plot:
        from .plot import new_axes, plot_throughput, save

        width = 7.0 if len(profiles) <= 6 else 9.5  # the legend stands beside many curves
        save(plot_throughput(profiles, new_axes(width), title=name), out / "profile.png")
        yield out / "profile.png"


# --- --layers ---------------------------------------------------------------------------------------------------------


def _print_layers(name: str, params: list[tuple[Any, Any]], dtype: str, args: argparse.Namespace) -> None:
    from ._backends import BACKENDS, network
    from ._layer_times import layer_times
    from ._roofline import roofline
    from .optimizer import SGD

    own = [(W.astype(dtype), b.astype(dtype)) for W, b in params]
    rng = np.random.default_rng(0)
    x = rng.random((args.batch, len(own[0][0])), "float32").astype(dtype)
    t = rng.integers(own[-1][1].size, size=args.batch)
    limits = roofline()
    with _progress((4 * len(params) + 2) * args.rounds) as tell:
        step = BACKENDS["fastnn"].step([(W.copy(), b.copy()) for W, b in own], x, t, args.activation, LR)
        times, step_seconds = layer_times(network(own, args.activation), SGD(LR), x, t, step, args.rounds, tell)
    total = sum(time.seconds for time in times)
    print(f"{name}, batch {args.batch}, {dtype}, {limits.threads} threads")
    print(
        "\n".join(
            _columns(
                ["layer", "", "µs", "of step", "GFLOP/s", "GB/s", "of roofline"],
                [_layer_row(time, total, limits, dtype) for time in times],
            )
        )
    )
    print(f"layer by layer {_us(total)} µs; the compiled step {_us(step_seconds)} µs\n")


def _layer_row(time: "LayerTime", total: float, limits: Any, dtype: str) -> list[str]:
    return [
        time.layer,
        time.direction,
        _us(time.seconds),
        f"{time.seconds / total:.0%}",
        f"{time.flops / time.seconds / 1e9:.1f}" if time.flops else "n/a",
        f"{time.nbytes / time.seconds / 1e9:.1f}",
        f"{limits.seconds(time.flops, time.nbytes, dtype) / time.seconds:.0%}",
    ]
