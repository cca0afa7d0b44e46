"""Throughput against batch size: `profile`."""

import csv
import dataclasses
import io
import json
import math
import tracemalloc
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from ._arrays import as_array
from ._device import on_gpu, waiter, xp_of
from ._roofline import Roofline, roofline
from ._timing import Contestant, interleave

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["Point", "ThroughputProfile", "profile"]

BATCH_SIZES = tuple(2**i for i in range(13))
NEAR_BEST = 0.05  # of the best throughput may be missing at the knee


@dataclasses.dataclass(frozen=True)
class Point:
    """What was measured at one batch size.

    Attributes
    ----------
    batch : int
        Samples a call.
    seconds : float
        Of a call: the median over the rounds.
    low, high : float
        Confidence interval of that median, 95 %, from the order of the measurements alone.
    flops : float
        Floating-point operations of the products in a call; 0 where they are not known.
    memory : int or None
        Bytes that the batch and a call on it take at their peak, as NumPy and Python tell; None where they do not.
    """

    batch: int
    seconds: float
    low: float
    high: float
    flops: float = 0.0
    memory: int | None = None

    @property
    def throughput(self) -> float:
        """Samples a second."""
        return self.batch / self.seconds


@dataclasses.dataclass(frozen=True)
class ThroughputProfile:
    """Throughput over batch size, of one model on one device; made by `profile`.

    Attributes
    ----------
    name, mode, dtype, backend, device : str
        What was measured.
    points : tuple of Point
        In the order of their batch sizes.
    roofline : Roofline
        The machine's limits.
    others : float
        CPUs that other processes kept busy meanwhile; beyond 0.05 the figures are doubtful.

    Examples
    --------
    >>> from fastnn import Roofline
    >>> machine = Roofline(threads=2, flops={"float32": 4e11}, copy=3e10, copy_cached=1e11)
    >>> seconds = {1: 5e-6, 16: 20e-6, 64: 64e-6, 256: 250e-6}
    >>> points = tuple(Point(n, s, s, s) for n, s in seconds.items())
    >>> p = ThroughputProfile("net", "predict", "float32", "fastnn", "cpu", points, machine)
    >>> p.best().batch, p.knee().batch, p.best(latency_ms=0.1).batch
    (256, 64, 64)
    """

    name: str
    mode: str
    dtype: str
    backend: str
    device: str
    points: tuple[Point, ...]
    roofline: Roofline
    others: float = 0.0

    @property
    def label(self) -> str:
        """As in ``fastnn float32 predict, cpu``."""
        return f"{self.backend} {self.dtype} {self.mode}, {self.device}"

    def best(self, latency_ms: float | None = None) -> Point | None:
        """The point with the highest throughput whose calls take at most `latency_ms`; None where none is so fast."""
        points = [p for p in self.points if latency_ms is None or 1e3 * p.seconds <= latency_ms]
        return max(points, key=lambda p: p.throughput, default=None)

    def knee(self) -> Point:
        """The smallest batch within 5 % of the best throughput."""
        most = max(p.throughput for p in self.points)
        return next(p for p in self.points if p.throughput >= (1 - NEAR_BEST) * most)

    def of_peak(self, point: Point) -> float | None:
        """The share of the machine's peak of multiply-adds that a point reached; None where it is not known."""
        if not point.flops or self.dtype not in self.roofline.flops:
            return None
        return point.flops / point.seconds / self.roofline.flops[self.dtype]

    def plot(self, ax: "Axes | None" = None) -> "Axes":
        """Draw throughput against batch size; see `fastnn.plot.plot_throughput`."""
        from .plot import plot_throughput

        return plot_throughput([self], ax)

    def to_json(self) -> str:
        """All of it as JSON text; `from_json` reads it."""
        return json.dumps(dataclasses.asdict(self), indent=1)

    @classmethod
    def from_json(cls, text: str) -> "ThroughputProfile":
        """The profile that `to_json` wrote."""
        return cls.from_dict(json.loads(text))

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "ThroughputProfile":
        """The profile whose ``dataclasses.asdict`` this is."""
        points = tuple(Point(**point) for point in values["points"])
        return cls(**values | {"points": points, "roofline": Roofline(**values["roofline"])})


def to_csv(profiles: Iterable[ThroughputProfile]) -> str:
    """A line for each point of each profile."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    labels = ["name", "mode", "dtype", "backend", "device"]
    writer.writerow(labels + ["batch", "seconds", "low", "high", "samples_per_s", "gflops", "of_peak", "memory"])
    for p in profiles:
        for q in p.points:
            gflops = q.flops / q.seconds / 1e9 if q.flops else None
            row = [q.batch, q.seconds, q.low, q.high, q.throughput, gflops, p.of_peak(q), q.memory]
            writer.writerow([getattr(p, label) for label in labels] + ["" if value is None else value for value in row])
    return out.getvalue()


def profile(
    model: Any,
    x: ArrayLike | None = None,
    t: ArrayLike | None = None,
    *,
    batch_sizes: Sequence[int] = BATCH_SIZES,
    rounds: int = 15,
    name: str = "",
) -> ThroughputProfile:
    """Measure how many samples a second a model takes, against the size of its batches.

    All sizes take turns, round by round; what is compiled at first calls is left out.

    Parameters
    ----------
    model : object or callable
        With ``predict(x)``, or itself called so. With `t` it is called ``model(x, t)``: a compiled step, say.
    x : array_like, optional
        Samples (N, ...), repeated to fill larger batches. By default random ones, for a network of fastnn layers
        that begins with `Affine` or `MatMul`.
    t : array_like, optional
        Labels of the samples: what is measured is then called with them, and trains the model.
    batch_sizes : sequence of int
        By default the powers of two up to 4096.
    rounds : int
        Measurements of each size.
    name : str
        What to call it; by default its class or function.

    Returns
    -------
    ThroughputProfile

    Raises
    ------
    ValueError
        For batch sizes or rounds below 1; without x, where it cannot be known what the model takes.
    TypeError
        For a model that cannot be called so.

    Examples
    --------
    >>> import fastnn
    >>> from fastnn.models import TwoLayerNet
    >>> p = fastnn.profile(TwoLayerNet(64, 50, 10, rng=0), batch_sizes=[1, 32], rounds=3)
    >>> [point.batch for point in p.points], p.best().batch
    ([1, 32], 32)
    """
    call = model if t is not None else getattr(model, "predict", model)
    if not callable(call):
        raise TypeError(f"fastnn.profile: model must have predict or be callable, got {type(model).__name__}")
    sizes = _checked_sizes(batch_sizes)
    if rounds < 1:
        raise ValueError(f"fastnn.profile: rounds must be at least 1, got {rounds}")
    samples = _some_samples(model) if x is None else as_array(x, "fastnn.profile", "x")
    labels = None if t is None else as_array(t, "fastnn.profile", "t")
    if samples.ndim == 0 or len(samples) == 0 or (labels is not None and len(labels) != len(samples)):
        raise ValueError("fastnn.profile: x must hold samples along its first axis, and t a label for each")

    def prepare(batch: int) -> Callable[[], Any]:
        batch_x = _repeated(samples, batch)
        if labels is None:
            return lambda: call(batch_x)
        batch_t = _repeated(labels, batch)
        return lambda: call(batch_x, batch_t)

    mode = "predict" if t is None else "train"
    title = name or getattr(model, "__qualname__", type(model).__name__)
    owner = getattr(model, "__self__", model)  # of a method
    backend = str(getattr(owner, "__module__", None) or "python").partition(".")[0]
    device = "cuda" if on_gpu(samples) else "cpu"
    run = Run(
        title, mode, str(samples.dtype), backend, device, prepare, _flops(model, t), device == "cpu", waiter(device)
    )
    return measure([run], sizes, rounds)[0]


@dataclasses.dataclass
class Run:
    """One curve to be measured: what it is called, and what makes a call for a batch size.

    Attributes
    ----------
    flops : float
        Of the products, a sample; 0 where they are not known.
    traced : bool
        Whether it allocates its memory through NumPy.
    wait : callable
        Returns when all that was called is done.
    """

    name: str
    mode: str
    dtype: str
    backend: str
    device: str
    prepare: Callable[[int], Callable[[], Any]]
    flops: float = 0.0
    traced: bool = True
    wait: Callable[[], Any] = lambda: None


def measure(
    runs: Sequence[Run], sizes: Sequence[int], rounds: int, tell: Callable[[], Any] = lambda: None
) -> list[ThroughputProfile]:
    """Profiles of several runs, whose turns are interleaved; `tell` is called after each turn."""
    limits = {device: roofline(device) for device in dict.fromkeys(run.device for run in runs)}
    memory: dict[tuple[int, int], int | None] = {}
    contestants: dict[tuple[int, int], Contestant] = {}
    for i, run in enumerate(runs):
        for batch in sizes:
            memory[i, batch] = _peak_memory(run, batch) if run.traced else None
            contestants[i, batch] = Contestant(run.prepare(batch), run.wait, team=run.backend)
            contestants[i, batch].call()
    others = interleave(list(contestants.values()), rounds, tell)
    profiles = []
    for i, run in enumerate(runs):
        points = []
        for batch in sizes:
            c = contestants[i, batch]
            points.append(Point(batch, c.median, *confidence_interval(c.seconds), run.flops * batch, memory[i, batch]))
        labels = run.name, run.mode, run.dtype, run.backend, run.device
        profiles.append(ThroughputProfile(*labels, tuple(points), limits[run.device], others))
    return profiles


def _peak_memory(run: Run, batch: int) -> int:
    """Bytes that a batch and a call on it allocate, compilation and what was left from the last call apart."""
    run.prepare(batch)()  # compiles
    run.prepare(1 + (batch == 1))()  # another size: outputs of the first are not used again
    tracemalloc.start()
    try:
        run.prepare(batch)()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def confidence_interval(seconds: Sequence[float], confidence: float = 0.95) -> tuple[float, float]:
    """Of the median, between two of the measurements, whatever their distribution; all of them where they are few.

    Examples
    --------
    >>> confidence_interval(range(15))
    (3, 11)
    >>> confidence_interval([2.0, 1.0, 3.0])
    (1.0, 3.0)
    """
    ordered, n = sorted(seconds), len(seconds)
    k, outside = 0, 2 * 0.5**n  # chance that the median of all lies outside the k-th from below and from above
    while (outside := outside + 2 * math.comb(n, k + 1) * 0.5**n) <= 1 - confidence:
        k += 1
    return ordered[k], ordered[n - 1 - k]


def _checked_sizes(batch_sizes: Sequence[int]) -> list[int]:
    sizes = sorted({int(size) for size in batch_sizes})
    if not sizes or sizes[0] < 1:
        raise ValueError(f"fastnn.profile: batch_sizes must be at least 1, got {list(batch_sizes)}")
    return sizes


def _layers(model: Any) -> list[Any]:
    layers = getattr(model, "layers", [])
    return list(layers.values() if hasattr(layers, "values") else layers)


def _repeated(a: Any, n: int) -> Any:
    """The first n rows of a, which begins anew at its end."""
    return a[xp_of(a).arange(n) % len(a)]


def _some_samples(model: Any) -> Any:
    first = next(iter(_layers(model)), None)
    W = getattr(first, "W", None)
    if W is None or W.ndim != 2:
        raise ValueError("fastnn.profile: x must be given: the model does not begin with an Affine or MatMul layer")
    return xp_of(W).asarray(np.random.default_rng(0).standard_normal((64, W.shape[0])).astype(W.dtype))


def _flops(model: Any, t: Any) -> float:
    """Operations of a sample's prediction, where all products are those of Affine and MatMul layers; else 0."""
    weights = [layer.W for layer in _layers(model) if hasattr(layer, "W")]
    known = t is None and all(W.ndim == 2 for W in weights)
    return float(sum(2 * W.size for W in weights)) if known else 0.0
