from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ._figures import COLORS, INK, MARKERS, axes_or_current, dress, shown

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from .profiling import ThroughputProfile

_LINES = {"float32": "-", "float64": "--"}


def plot_throughput(
    profiles: Sequence[ThroughputProfile], ax: Axes | None = None, *, title: str | None = None, show: bool = False
) -> Axes:
    """Draw samples a second against batch size, both on logarithmic axes.

    The knee of each curve is ringed; the band about it is the confidence interval. Backends and modes differ by colour
    and marker, dtypes by line.

    Parameters
    ----------
    profiles : sequence of ThroughputProfile
        One curve each.
    ax : matplotlib Axes, optional
        Where to draw; pyplot's current Axes otherwise.
    title : str, optional
        Text over the picture.
    show : bool
        Call ``matplotlib.pyplot.show()``.

    Returns
    -------
    matplotlib Axes

    Raises
    ------
    ImportError
        If matplotlib is not installed.
    """
    ax = axes_or_current(ax)
    from matplotlib.ticker import EngFormatter, FixedLocator, FuncFormatter, NullLocator

    looks: dict[tuple[str, str, str], int] = {}
    for p in profiles:
        look = looks.setdefault((p.backend, p.mode, p.device), len(looks)) % len(COLORS)
        batches, rates = [q.batch for q in p.points], [q.throughput for q in p.points]
        style: dict[str, Any] = {"color": COLORS[look], "marker": MARKERS[look], "linestyle": _LINES.get(p.dtype, ":")}
        ax.plot(batches, rates, label=p.label, markersize=4, **style)
        low, high = [q.batch / q.high for q in p.points], [q.batch / q.low for q in p.points]
        ax.fill_between(batches, low, high, color=COLORS[look], alpha=0.15, linewidth=0)
        knee = p.knee()
        ax.plot([knee.batch], [knee.throughput], "o", markersize=10, markerfacecolor="none", markeredgecolor=INK)
    ax.set_xscale("log", base=2)
    ax.set_yscale("log")
    sizes = sorted({q.batch for p in profiles for q in p.points})
    ax.xaxis.set_major_locator(FixedLocator(sizes[:: -(-len(sizes) // 14)]))
    ax.xaxis.set_minor_locator(NullLocator())
    ax.xaxis.set_major_formatter(FuncFormatter(lambda size, _: f"{size:.0f}"))
    ax.yaxis.set_major_formatter(EngFormatter(sep=""))
    dress(ax, "batch size", "samples a second", title)
    beside: dict[str, Any] = (
        {"loc": "upper left", "bbox_to_anchor": (1.0, 1.0)} if len(profiles) > 6 else {}
    )  # else they hide curves
    heading: dict[str, Any] = {"title": "ringed: the knee", "title_fontsize": "small", "alignment": "left"}
    ax.legend(fontsize="small", frameon=False, **heading, **beside)
    return shown(ax, show)
