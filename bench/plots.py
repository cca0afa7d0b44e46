"""Pictures of a saved run: throughput over batch size, the roofline with every operation on it, speed-ups."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from fastnn._figures import COLORS, INK, MARKERS, dress, new_axes, save

from .cases import is_ours

Records = list[dict[str, Any]]
OURS, PEERS = (COLORS[5], COLORS[0]), (*COLORS[1:5], COLORS[7], "#999999", "#8C564B")
FAMILIES = {  # of operations, by a word in their names
    "matrix products": ("product", "affine"),
    "convolution": ("convolution",),
    "pooling, batch normalisation, dropout": ("pooling", "normalisation", "dropout"),
    "softmax with loss": ("softmax",),
    "optimizers": ("SGD", "Momentum", "Adam"),
    "activations": ("forward", "backward"),
}


def draw(records: Records, machine: dict[str, Any], folder: Path) -> Iterator[Path]:
    """Write what there is something to draw of; yields the files."""
    folder.mkdir(parents=True, exist_ok=True)
    pictures = {
        "bench-batches": images_over_batch(records),
        "bench-roofline": roofline(records, machine["roofline"]),
        "bench-speedups": speedups(records),
    }
    for name, ax in pictures.items():
        if ax is not None:
            save(ax, folder / f"{name}.png")
            yield folder / f"{name}.png"


def images_over_batch(records: Records) -> Any:
    """Images a second of every contestant against the batch, in float32."""
    chosen = [r for r in records if r["kind"] == "images" and r["dtype"] == "float32"]
    if not chosen:
        return None
    ax = new_axes(7.5, 4.8)
    for i, name in enumerate(dict.fromkeys(r["contestant"] for r in chosen)):
        points = sorted(
            (int(r["case"].rpartition(", ")[2]), r["samples"] / r["median"]) for r in chosen if r["contestant"] == name
        )
        batches, rates = zip(*points, strict=True)
        color = OURS["compiled" in name] if is_ours(name) else PEERS[i % len(PEERS)]
        look = {"color": color, "marker": MARKERS[i % len(MARKERS)], "markersize": 4.5}
        ax.plot(batches, rates, label=name, linewidth=2.4 if is_ours(name) else 1.2, **look)
    ax.set_xscale("log")
    ax.set_yscale("log")
    from matplotlib.ticker import EngFormatter, FixedLocator, NullLocator, ScalarFormatter

    ax.xaxis.set_major_locator(FixedLocator(sorted(set(map(_batch, chosen)))))
    ax.xaxis.set_minor_locator(NullLocator())
    ax.xaxis.set_major_formatter(ScalarFormatter())
    ax.yaxis.set_major_formatter(EngFormatter(sep=""))
    network = chosen[0]["case"].rpartition(", ")[0]
    dress(ax, "images at a time", "images a second", f"10,000 images through {network} and softmax, float32")
    ax.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0), frameon=False, fontsize="small")
    return ax


def _batch(record: dict[str, Any]) -> int:
    return int(record["case"].rpartition(", ")[2])


def roofline(records: Records, machine: dict[str, Any]) -> Any:
    """Operations a second of every operation in float32 against operations a byte, under the machine's limits.

    Those of products are counted; what has none counts as one for each value moved.
    """
    chosen = [r for r in records if r["kind"] == "op" and r["dtype"] == "float32" and is_ours(r["contestant"])]
    if not chosen:
        return None
    ax = new_axes(7.5, 5.0)
    peak = machine["flops"]["float32"] / 1e9
    reach = np.logspace(-1.5, 3, 200)
    for bandwidth, line, text in (("copy", "-", "memory"), ("copy_cached", "--", "second-level cache")):
        slope = machine[bandwidth] / 1e9
        label = f"copying, {text}: {slope:.0f} GB/s"
        ax.plot(reach, np.minimum(peak, slope * reach), line, color=INK, linewidth=1.2, label=label)
    ax.annotate(f"multiply-adds: {peak:.0f} GFLOP/s", (1000, peak * 1.08), fontsize=8, color=INK, ha="right")
    for i, family in enumerate(FAMILIES):
        members = [r for r in chosen if _family(r["case"]) == family]
        if members:
            counts = [r["flops"] or r["bytes"] / 4 for r in members]
            x = [count / r["bytes"] for count, r in zip(counts, members, strict=True)]
            y = [count / r["median"] / 1e9 for count, r in zip(counts, members, strict=True)]
            ax.plot(x, y, MARKERS[i], color=COLORS[i], markersize=6, alpha=0.8, markeredgecolor="white", label=family)
    ax.set_xscale("log")
    ax.set_yscale("log")
    dress(
        ax, "operations a byte that must move", "billion operations a second", "Roofline: fastnn's operations, float32"
    )
    ax.legend(loc="lower right", frameon=False, fontsize="small")
    return ax


def _family(case: str) -> str:
    return next(family for family, words in FAMILIES.items() if any(word in case for word in words))


def speedups(records: Records) -> Any:
    """How many times as fast as the best peer, for every figure that has a goal; the goals as ticks."""
    chosen = [r for r in records if r.get("goal") and r.get("times_best_peer")]
    if not chosen:
        return None
    ax = new_axes(8.5, 1.2 + 0.19 * len(chosen))
    y = np.arange(len(chosen))
    times, goals = [r["times_best_peer"] for r in chosen], [r["goal"] for r in chosen]
    colors = [COLORS[2] if t >= g else COLORS[0] if t >= 1 else COLORS[4] for t, g in zip(times, goals, strict=True)]
    ax.barh(y, times, left=0, height=0.7, color=colors)
    ax.plot(goals, y, "|", color=INK, markersize=8, markeredgewidth=1.8)
    ax.axvline(1, color=INK, linewidth=0.8)
    ax.set_xscale("log")
    names = [f"{r['case']}, {r['dtype']}, {r['contestant'].removeprefix('fastnn, ')}" for r in chosen]
    ax.set_yticks(y, names, fontsize=7)
    ax.set_ylim(len(chosen) - 0.4, -0.6)
    ax.set_xlim(min(0.5, 0.9 * min(times)), 1.2 * max(*times, *goals))
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch
    from matplotlib.ticker import FixedLocator, NullLocator, ScalarFormatter

    ax.xaxis.set_major_locator(FixedLocator([0.25, 0.5, 1, 2, 4, 8, 16, 32]))
    ax.xaxis.set_minor_locator(NullLocator())
    ax.xaxis.set_major_formatter(ScalarFormatter())
    dress(ax, "times as fast as the best peer in the same run", "", None)
    ax.grid(False, axis="y")
    keys = [Patch(color=COLORS[i], label=text) for i, text in ((2, "goal reached"), (0, "ahead"), (4, "behind"))]
    keys.append(Line2D([], [], color=INK, marker="|", linestyle="", markersize=8, markeredgewidth=1.8, label="goal"))
    ax.legend(handles=keys, loc="lower right", bbox_to_anchor=(1.0, 1.0), ncols=4, frameon=False, fontsize="small")
    return ax
