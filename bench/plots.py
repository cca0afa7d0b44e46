"""Pictures of a saved run: throughput over batch size, the roofline with every operation on it, speed-ups."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from fastnn._figures import COLORS, INK, MARKERS, dress, new_axes, save

from .cases import is_ours
from .goals import BEST, Figure, figures

Records = list[dict[str, Any]]
OURS, PEERS = (COLORS[5], COLORS[0]), (*COLORS[1:5], COLORS[7], "#999999", "#8C564B")
TITLES = {
    "train": "training step", "predict": "inference", "convnet": "convolutional networks", "op": "operations",
    "loop": "training runs",
}  # fmt: skip
FAMILIES = {  # of operations, by a word in their names
    "matrix products": ("product", "affine"),
    "convolution": ("convolution",),
    "pooling, batch normalisation, dropout": ("pooling", "normalisation", "dropout"),
    "softmax, losses": ("softmax", "loss", "error"),
    "optimizers": ("SGD", "Momentum", "RMSprop", "AdaGrad", "Adam"),
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
    """Every operation in float32 under the machine's limits.

    To the left those that memory bounds: bytes a second against the bytes of a call, which tell whether it is a cache
    that they come from. To the right products: operations a second against operations a byte.
    """
    chosen = [r for r in records if r["kind"] == "op" and r["dtype"] == "float32" and is_ours(r["contestant"])]
    if not chosen:
        return None
    from matplotlib.figure import Figure as Picture
    from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

    left, right = Picture(figsize=(10.5, 4.8), layout="constrained").subplots(1, 2)
    peak, copy, cached = (x / 1e9 for x in (machine["flops"]["float32"], machine["copy"], machine["copy_cached"]))
    for i, family in enumerate(FAMILIES):
        members = [r for r in chosen if _family(r["case"]) == family]
        look: dict[str, Any] = {"markersize": 6, "alpha": 0.8, "markeredgecolor": "white", "label": family}
        for ax, some in ((left, [r for r in members if not r["flops"]]), (right, [r for r in members if r["flops"]])):
            if some:
                x = [r["bytes"] if ax is left else r["flops"] / r["bytes"] for r in some]
                y = [(r["bytes"] if ax is left else r["flops"]) / r["median"] / 1e9 for r in some]
                ax.plot(x, y, MARKERS[i], color=COLORS[i], **look)
    for level, line, text in ((cached, "--", "second-level cache"), (copy, "-", "memory")):
        left.axhline(level, color=INK, linewidth=1.2, linestyle=line, label=f"copying, {text}: {level:.0f} GB/s")
    reach = np.logspace(0, 3, 200)
    limits = f"multiply-adds: {peak:.0f} GFLOP/s; copying, memory: {copy:.0f} GB/s"
    right.plot(reach, np.minimum(peak, copy * reach), color=INK, linewidth=1.2, label=limits)
    for ax in (left, right):
        ax.set_xscale("log")
        ax.set_yscale("log")
        ax.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        ax.yaxis.set_major_formatter(FuncFormatter(lambda rate, _: f"{rate:g}"))
        ax.yaxis.set_minor_locator(NullLocator())
        ax.legend(loc="upper center", bbox_to_anchor=(0.5, -0.13), ncols=2, frameon=False, fontsize="small")
    dress(left, "bytes that a call must move", "GB a second", "Roofline: fastnn's operations, float32")
    dress(right, "operations a byte that must move", "GFLOP a second", None)
    return left


def _family(case: str) -> str:
    return next(family for family, words in FAMILIES.items() if any(word in case for word in words))


def speedups(records: Records) -> Any:
    """How many times as fast as the best peer, for every figure that has a goal; the goals as ticks and in brackets.

    Bars begin at 1: to the right fastnn is ahead, to the left it is behind.
    """
    chosen = [f for f in figures(records) if f.is_ratio and f.reached]
    if not chosen:
        return None
    lines: list[Figure | str] = []  # one below the other: a kind's title, then its figures
    for kind in dict.fromkeys(f.record["kind"] for f in chosen):
        lines += [TITLES[kind], *(f for f in chosen if f.record["kind"] == kind)]
    ax = new_axes(8.5, 1.0 + 0.17 * len(lines))
    texts = []
    for y, line in enumerate(lines):
        if isinstance(line, str):
            texts.append(line)
            continue
        texts.append(_label(line))
        times = line.reached or 1.0
        color = COLORS[2] if line.met else COLORS[0] if times >= 1 else COLORS[4]
        ax.barh(y, times - 1, left=1, height=0.72, color=color)
        ax.plot([line.goal], [y], "|", color=INK, markersize=7, markeredgewidth=1.6)
        ax.annotate(
            f"{times:.2f} ({line.goal:.3g})", (1.01, y), xycoords=("axes fraction", "data"),
            fontsize=6.5, va="center", color=color if times < 1 else INK, annotation_clip=False,
        )  # fmt: skip
    ax.axvline(1, color=INK, linewidth=0.8)
    ax.set_xscale("log")
    ax.set_yticks(range(len(lines)), texts, fontsize=6.5)
    for label, line in zip(ax.get_yticklabels(), lines, strict=True):
        label.set_fontweight("bold" if isinstance(line, str) else "normal")
    ax.tick_params(axis="y", length=0)
    ax.set_ylim(len(lines) - 0.4, -0.6)
    farthest = max(max(f.reached or 0, f.goal) for f in chosen)
    ax.set_xlim(min(0.7, *(0.9 * (f.reached or 1) for f in chosen)), 1.15 * farthest)
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch
    from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

    ax.xaxis.set_major_locator(FixedLocator([0.125, 0.25, 0.5, 1, 2, 4, 8, 16, 32, 64]))
    ax.xaxis.set_minor_locator(NullLocator())
    ax.xaxis.set_major_formatter(FuncFormatter(lambda times, _: f"{times:g}"))
    dress(ax, "times as fast as the best peer in the same run", "", None)
    ax.grid(False, axis="y")
    keys = [Patch(color=COLORS[i], label=text) for i, text in ((2, "goal reached"), (0, "ahead"), (4, "behind"))]
    keys.append(Line2D([], [], color=INK, marker="|", linestyle="", markersize=7, markeredgewidth=1.6, label="goal"))
    ax.legend(handles=keys, loc="lower right", bbox_to_anchor=(1.0, 1.0), ncols=4, frameon=False, fontsize="small")
    return ax


def _label(f: Figure) -> str:
    """What the figure is of, as short as it is clear."""
    who = f.record["contestant"].removeprefix("fastnn, ")
    parts = [f.record["case"], *([] if f.record["dtype"] == "float32" else [f.record["dtype"]])]
    parts += [] if f.record["kind"] in ("op", "convnet") else [who]
    short = re.sub(r"\b(\d)0{5,}\b", lambda m: f"{float(m[0]):.0e}".replace("e+0", "e"), ", ".join(parts))
    return short + ("" if f.against in (BEST, "bare steps") else f" / {f.against}")
