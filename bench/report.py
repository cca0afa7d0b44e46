"""Tables and plots of saved runs: ``python bench/report.py RUN.json ... [--plots FOLDER] [--against OLD.json ...]``.

RUN.json is what ``pytest --benchmark-only --benchmark-json=RUN.json`` wrote. Of a case that is in several files the
last counts. Tables go to the standard output, as Markdown.
"""

from __future__ import annotations

import argparse
import json
import re
import statistics
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

if __package__ in (None, ""):  # run as a file
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from bench.cases import is_ours
from bench.goals import BEST, figures

Record = dict[str, Any]
Records = list[Record]
Group = tuple[str, str, str]  # kind, case, dtype

KINDS = {
    "train": "Training step",
    "predict": "Inference, one batch",
    "images": "Inference of 10,000 images, in batches",
    "convnet": "Training step of a convolutional network",
    "op": "One operation",
    "loop": "Training runs",
}
BUSY = 0.05  # CPUs that others may use while something is timed
UNSTEADY = 0.15  # interquartile range over median


class BadFile(ValueError):
    """Not a file of a benchmark run."""


def load(paths: Iterable[Path]) -> tuple[Records, dict[str, Any]]:
    """The records of saved runs, and the machine of the last, with the highest limits that any run measured."""
    groups: dict[Group, Records] = {}
    machine: dict[str, Any] = {}
    for path in paths:
        try:
            run = json.loads(path.read_text())
            records = [b["extra_info"] for b in run["benchmarks"] if "contestant" in b["extra_info"]]
            roofline = run["machine_info"]["roofline"]
            machine = run["machine_info"] | {"roofline": _higher(roofline, machine.get("roofline", roofline))}
        except OSError as error:
            raise BadFile(f"{path}: {error.strerror}") from error
        except (ValueError, KeyError, TypeError) as error:
            raise BadFile(f"{path}: not a file of pytest --benchmark-only --benchmark-json") from error
        groups |= by_group(records)
    return [record for records in groups.values() for record in records], machine


def _higher(a: dict[str, Any], b: dict[str, Any]) -> dict[str, Any]:
    flops = {dtype: max(a["flops"][dtype], b["flops"][dtype]) for dtype in a["flops"]}
    return {name: max(a[name], b[name]) for name in a if name != "flops"} | {"flops": flops}


def by_group(records: Records) -> dict[Group, Records]:
    """The competitors of each case."""
    groups: dict[Group, Records] = {}
    for record in records:
        groups.setdefault((record["kind"], record["case"], record["dtype"]), []).append(record)
    return groups


# --- tables -------------------------------------------------------------------------------------------------------


def tables(records: Records, machine: dict[str, Any]) -> Iterator[str]:
    """Lines of Markdown: the machine, every figure with its goal, all times, and the answers to the usual questions."""
    most = machine["roofline"]
    gflops = {dtype: f"{flops / 1e9:.0f}" for dtype, flops in most["flops"].items()}
    versions = ", ".join(f"{name} {number}" for name, number in machine["versions"].items())
    yield ""
    yield f"{machine['cpu_name']}, {most['threads']} threads; {versions}; fastnn {machine['commit']}."
    yield (
        f"{machine['date']}; FMA peak {gflops['float32']} GFLOP/s in float32, {gflops['float64']} in float64; "
        f"copy {most['copy'] / 1e9:.1f} GB/s, in cache {most['copy_cached'] / 1e9:.0f}."
    )
    yield from _doubts(records)
    groups = by_group(records)
    yield from _section(
        "Figures: times as fast as the best peer of the same run, or shares of a limit", _figures(records)
    )
    for kind, title in KINDS.items():
        for dtype in dict.fromkeys(record["dtype"] for record in records):
            chosen = [group for key, group in groups.items() if (key[0], key[2]) == (kind, dtype)]
            yield from _section(f"{title}, {dtype}, µs", _times(chosen))
    yield from _section("Forward and backward together, µs", _both(groups))
    yield from _section("One image at a time, or in batches: images a second", _batches(records))
    yield from _section("float32 against float64: how many times as fast", _dtypes(groups, "float64"))
    yield from _section("float32 against storage in float16: how many times as fast", _dtypes(groups, "float16"))
    yield from _section("The first training step, compilation included, s", _first_calls(records))
    yield from _section("New processes, s", _startup(groups))


def _section(title: str, table: list[list[str]]) -> Iterator[str]:
    if len(table) > 1:
        yield f"\n### {title}\n"
        yield from markdown(table)


def markdown(table: list[list[str]]) -> Iterator[str]:
    """A table whose first row is its head, its columns aligned for those who read it as it is."""
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    for i, row in enumerate(table):
        cells = [cell.rjust(width) for cell, width in zip(row, widths, strict=True)]
        cells[0] = row[0].ljust(widths[0])
        yield f"| {' | '.join(cells)} |"
        if i == 0:
            yield f"|{'|'.join('-' * (w + 2) for w in widths)}|"


def _figures(records: Records) -> list[list[str]]:
    table = [["figure", "contestant", "against", "reached", "goal", ""]]
    for f in figures(records):
        against = f.record.get("best_peer", "n/a") if f.against == BEST else f.against
        mark = {None: "n/a", True: "reached", False: "missed"}[f.met]
        table.append([f.name, f.record["contestant"], against, _times_as(f.reached), _times_as(f.goal), mark])
    return table


def _times(groups: list[Records]) -> list[list[str]]:
    """Median µs of each contestant, on how many threads; fastnn's ratio to the best peer; what that amounts to."""
    names = list(dict.fromkeys(r["contestant"] for group in groups for r in group))
    ours = [name for name in names if is_ours(name)]
    rates = {
        "GFLOP/s": ("gflops", "{:.1f}"), "of FMA peak": ("of_fma_peak", "{:.0%}"),
        "GB/s": ("gbytes", "{:.1f}"), "of roofline": ("of_roofline", "{:.0%}"),
    }  # fmt: skip
    rates = {title: rate for title, rate in rates.items() if any(rate[0] in r for group in groups for r in group)}
    table = [["case", *names, *(f"{name}: times best peer" for name in ours), *rates]]
    for group in groups:
        by_name = {r["contestant"]: r for r in group}
        fastest = min((by_name[name] for name in ours if name in by_name), key=lambda r: r["median"], default={})
        table.append(
            [
                group[0]["case"],
                *(_time(by_name.get(name)) for name in names),
                *(_times_as(by_name.get(name, {}).get("times_best_peer")) for name in ours),
                *(form.format(fastest[rate]) if rate in fastest else "n/a" for rate, form in rates.values()),
            ]
        )
    return table


def _time(record: Record | None) -> str:
    if record is None:
        return "n/a"
    return _us(record["median"]) + (f" ({record['threads']}t)" if record["threads"] else "")


def _us(seconds: float) -> str:
    us = 1e6 * seconds
    return f"{us:,.0f}" if us >= 100 else f"{us:.1f}"


def _times_as(ratio: float | None) -> str:
    return "n/a" if ratio is None else f"{ratio:.2f}"


def _batches(records: Records) -> list[list[str]]:
    chosen = [r for r in records if r["kind"] == "images" and r["dtype"] == "float32"]
    cases = list(dict.fromkeys(r["case"] for r in chosen))
    table = [["contestant", *(f"batch {case.rpartition(', ')[2]}" for case in cases), "last / first"]]
    for name in dict.fromkeys(r["contestant"] for r in chosen):
        rate = {r["case"]: r["samples"] / r["median"] for r in chosen if r["contestant"] == name}
        known = [rate[case] for case in cases if case in rate]
        cells = [f"{rate[case]:,.0f}" if case in rate else "n/a" for case in cases]
        table.append([name, *cells, f"{known[-1] / known[0]:.1f}" if len(known) > 1 else "n/a"])
    return table


def _both(groups: dict[Group, Records]) -> list[list[str]]:
    """The sum of what an operation takes in its directions, for the best peer that does all of them."""
    parts: dict[tuple[str, str], list[dict[str, float]]] = {}
    for (kind, case, dtype), group in groups.items():
        whole = re.sub(" (forward|backward|dx|dW, db),", ",", case)
        if kind == "op" and whole != case:
            parts.setdefault((whole, dtype), []).append({r["contestant"]: r["median"] for r in group})
    table = [["case", "fastnn", "best peer", "", "times best peer"]]
    for (whole, dtype), times in parts.items():
        sums = {name: sum(part[name] for part in times) for name in times[0] if all(name in part for part in times)}
        ours = [seconds for name, seconds in sums.items() if is_ours(name)]
        peers = [(seconds, name) for name, seconds in sums.items() if not is_ours(name)]
        if len(times) > 1 and ours and peers:
            (seconds, name), own = min(peers), min(ours)
            table.append([f"{whole}, {dtype}", _us(own), _us(seconds), name, _times_as(seconds / own)])
    return table


def _dtypes(groups: dict[Group, Records], other: str) -> list[list[str]]:
    """Time in the other dtype over time in float32."""
    groups = {key: group for key, group in groups.items() if key[0] not in ("loop", "startup", "memory")}
    ratios: dict[str, dict[str, float]] = {}
    for (kind, case, dtype), group in groups.items():
        there = {r["contestant"]: r["median"] for r in groups.get((kind, case, other), ())}
        if dtype == "float32" and there:
            here = {r["contestant"]: r["median"] for r in group}
            ratios[f"{kind}: {case}"] = {name: there[name] / here[name] for name in there if name in here}
    names = list(dict.fromkeys(name for row in ratios.values() for name in row))
    return [["case", *names], *([case, *(_times_as(row.get(name)) for name in names)] for case, row in ratios.items())]


def _first_calls(records: Records) -> list[list[str]]:
    """What compilation costs, which the tables leave out; kernels of fastnn and PyTorch may come from their caches."""
    seconds: dict[str, list[float]] = {}
    for r in records:
        if r.get("first_call"):
            seconds.setdefault(r["contestant"], []).append(r["first_call"])
    rows = [[name, f"{statistics.median(s):.2f}", f"{max(s):.2f}"] for name, s in seconds.items()]
    return [["contestant", "median", "longest"], *rows]


def _startup(groups: dict[Group, Records]) -> list[list[str]]:
    table = [["what", "", "s"]]
    for (kind, case, dtype), group in groups.items():
        if kind == "startup":
            table += [[f"{case}, {dtype}".removesuffix(", "), r["contestant"], f"{r['median']:.3f}"] for r in group]
    return table


def _doubts(records: Records) -> Iterator[str]:
    """What stands against these numbers: a busy machine, unsteady measurements."""
    busy = {(r["kind"], r["case"], r["dtype"]): r["others"] for r in records if r.get("others", 0) > BUSY}
    if busy:
        yield (
            f"**The machine was busy**: {len(busy)} of {len(by_group(records))} cases found too few quiet rounds; "
            f"others used up to {max(busy.values()):.0%} of a CPU."
        )
    unsteady = [r for r in records if r.get("spread", 0) > UNSTEADY]
    if unsteady:
        worst = sorted(unsteady, key=lambda r: -r["spread"])[:5]
        named = "; ".join(f"{r['case']} {r['dtype']} {r['contestant']} ±{r['spread'] / 2:.0%}" for r in worst)
        more = f" and {len(unsteady) - len(worst)} more" if len(unsteady) > len(worst) else ""
        yield f"**Unsteady** (half the interquartile range): {named}{more}."


# --- two runs -----------------------------------------------------------------------------------------------------


def compare(new: Records, old: Records, limit: float) -> tuple[list[list[str]], int]:
    """A table of fastnn's times in two runs, and how many are slower by more than `limit` (0.05 is 5 %).

    Where the peers of a case, which ran in turn with fastnn, took longer in the new run by some factor, the machine was
    slower by that much: what is judged is the change beyond it.
    """
    before = {(r["kind"], r["case"], r["dtype"], r["contestant"]): r["median"] for r in old}
    table, slower = [["case", "contestant", "old µs", "new µs", "peers", "change", ""]], 0
    for key, group in by_group([r for r in new if r["kind"] != "memory"]).items():
        both = [(r, before[(*key, r["contestant"])]) for r in group if (*key, r["contestant"]) in before]
        drifts = [r["median"] / old_median for r, old_median in both if not is_ours(r["contestant"])]
        drift = statistics.median(drifts) if drifts else 1.0
        for r, old_median in both:
            if is_ours(r["contestant"]):
                change = r["median"] / old_median / drift - 1
                slower += change > limit
                mark = "slower" if change > limit else "faster" if change < -limit else ""
                times = _us(old_median), _us(r["median"])
                peers = f"{drift - 1:+.0%}" if drifts else "n/a"
                table.append([f"{key[0]}: {key[1]}, {key[2]}", r["contestant"], *times, peers, f"{change:+.0%}", mark])
    return table, slower


# --- the command --------------------------------------------------------------------------------------------------


def percent(text: str) -> float:
    """5% or 0.05."""
    try:
        value = float(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
    except ValueError:
        value = -1
    if not 0 <= value < float("inf"):
        raise argparse.ArgumentTypeError(f"expected a share such as 5%, got {text!r}")
    return value


def main(arguments: list[str] | None = None) -> int:
    """Run the command; the exit status is 1 where something is slower than allowed."""
    parser = argparse.ArgumentParser(prog="bench/report.py", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("runs", type=Path, nargs="+", metavar="RUN.json")
    parser.add_argument("--plots", type=Path, metavar="FOLDER", help="write the plots there, as PNG")
    parser.add_argument("--against", type=Path, nargs="+", metavar="OLD.json", help="compare with an earlier run")
    parser.add_argument("--fail-if-slower", type=percent, metavar="5%", help="exit with 1 where fastnn is, by more")
    options = parser.parse_args(arguments)
    if options.fail_if_slower is not None and not options.against:
        parser.error("--fail-if-slower needs --against")
    try:
        records, machine = load(options.runs)
        old = load(options.against)[0] if options.against else None
    except BadFile as error:
        parser.exit(2, f"report.py: error: {error}\n")
    if old is None:
        print("\n".join(tables(records, machine)))
    if options.plots:
        from bench import plots

        for path in plots.draw(records, machine, options.plots):
            print(f"wrote {path}", file=sys.stderr)
    if old is not None:
        limit = 0.05 if options.fail_if_slower is None else options.fail_if_slower
        table, slower = compare(records, old, limit)
        print("\n".join(markdown(table)))
        print(f"\n{slower} of {len(table) - 1} slower by more than {limit:.0%}.")
        return int(slower > 0 and options.fail_if_slower is not None)
    return 0


if __name__ == "__main__":
    sys.exit(main())
