"""Measure fastnn against its peers, and print tables: ``python -m bench.steps [--quick] [--only train] [--json FILE]``.

Each contestant's result is held against float64 before it is timed. All take turns in one process, round by round, with
rests between them. Peers are timed on one thread and on two, and the better counts; fastnn chooses by itself. The whole
is done a second time in a process whose ``malloc`` keeps freed memory, so that no one who allocates large results pays
for page faults; of the two, again, the better counts, for everyone.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from .cases import CASES, CHECKED_STEPS, COMPILED, LAYERS, Case, check, inputs
from .timing import BUSY, Contestant, interleave

MALLOC = {
    "default": {},
    "keeps memory": {"MALLOC_MMAP_THRESHOLD_": "2147483648", "MALLOC_TRIM_THRESHOLD_": "17179869184"},
}
KINDS = {
    "train": "Training step",
    "predict": "Inference",
    "product": "Matrix product",
    "op": "One operation",
    "loop": "Training runs",
}
UNSTEADY = 0.15  # interquartile range over median


def main(arguments: list[str] | None = None) -> int:
    """Run the command; the exit status is 1 where a result was wrong."""
    parser = argparse.ArgumentParser(prog="python -m bench.steps", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--only", default="", help=f"comma-separated: {', '.join(KINDS)}, or parts of cases' names")
    parser.add_argument("--dtype", choices=("float32", "float64"), help="default: both")
    parser.add_argument("--rounds", type=int, default=15, help="measurements of each contestant (default 15)")
    parser.add_argument("--quick", action="store_true", help="5 rounds, one process")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all measurements to FILE")
    parser.add_argument("--in-process", metavar="MALLOC", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.rounds < 1:
        parser.error(f"argument --rounds: must be at least 1, got {options.rounds}")
    if options.quick:
        options.rounds = 5
    if options.in_process:
        options.json.write_text(json.dumps(measure(options)))
        return 0
    runs = []
    with tempfile.TemporaryDirectory() as folder:
        for malloc, settings in list(MALLOC.items())[: 1 if options.quick else None]:
            file = Path(folder, "run.json")
            # What torch.compile finds fastest is kept for the second run but not for another day.
            environment = os.environ | settings | {"TORCHINDUCTOR_CACHE_DIR": str(Path(folder, "inductor"))}
            command = [sys.executable, "-m", "bench.steps", *(sys.argv[1:] if arguments is None else arguments)]
            failed = subprocess.run([*command, "--in-process", malloc, "--json", str(file)], env=environment).returncode
            if failed:
                return failed
            runs.append(json.loads(file.read_text()))
    if options.json:
        options.json.write_text(json.dumps(runs, indent=1))
    print("\n".join(report(runs)))
    return int(any(entry.get("wrong") for run in runs for row in run["rows"] for entry in row["entries"]))


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """All rows, measured in this process, with what the machine is and can do."""
    from . import peers

    ready, missing = peers.installed()  # before Numba is loaded: see PEERS
    from . import machine

    run = {
        "malloc": options.in_process,
        "machine": machine.describe(),
        "missing": missing,
        "load": os.getloadavg()[0] if hasattr(os, "getloadavg") else math.nan,
        "rows": [],
    }
    limits = [machine.limits()]
    for case in filter(lambda case: _wanted(options, case.kind, case.name, case.dtype), CASES):
        run["rows"].append(_measure_case(case, ready, options.rounds))
    for name, dtype in _loops():
        if _wanted(options, "loop", name, dtype):
            run["rows"].append(_measure_loop(name, dtype, min(options.rounds, 5)))
    limits.append(machine.limits())  # once more: it may have been busy before
    return run | {"limits": {name: max(measured[name] for measured in limits) for name in limits[0]}}


def _wanted(options: argparse.Namespace, kind: str, name: str, dtype: str) -> bool:
    words = [word.strip() for word in options.only.split(",") if word.strip()]
    return options.dtype in (None, dtype) and (not words or any(word == kind or word in name for word in words))


def _loops() -> list[tuple[str, str]]:
    from .loops import LOOPS

    return [(name, dtype) for name in LOOPS for dtype in ("float32", "float64")]


def _measure_case(case: Case, ready: list[Any], rounds: int) -> dict[str, Any]:
    data, entries, contestants = inputs(case), [], []
    for peer in ready:
        for threads in peer.threads if getattr(peer, case.kind, None) else ():
            entry = {"name": peer.name, "threads": threads}
            entries.append(entry)
            try:
                start = time.perf_counter()
                peer.use(threads)
                job = getattr(peer, case.kind)(case, data)
                if case.kind == "train":
                    job.call()
                    job.wait()
                    entry["first_call"] = time.perf_counter() - start
                    for _ in range(CHECKED_STEPS - 1):
                        job.call()
                check(case, data, job.result())
            except Exception as error:  # a peer that breaks must not cost the others their numbers
                entry["wrong"] = f"{peer.name}, {case.name} {case.dtype}: {type(error).__name__}: {error}"
            else:
                prepare = lambda peer=peer, threads=threads: peer.use(threads)  # noqa: E731
                contestants.append((entry, Contestant(job.call, job.wait, prepare)))
    return _timed(entries, contestants, rounds) | {
        "kind": case.kind, "name": case.name, "dtype": case.dtype, "goals": case.goals, "flops": case.flops,
    }  # fmt: skip


def _measure_loop(name: str, dtype: str, rounds: int) -> dict[str, Any]:
    from .loops import LOOPS

    runs, t, accuracy = LOOPS[name](dtype)
    entries, contestants = [], []
    for who, run in runs.items():
        entry: dict[str, Any] = {"name": who, "threads": None}
        entries.append(entry)
        start = time.perf_counter()
        reached = float((run().argmax(axis=1) == t).mean())
        entry["first_call"] = time.perf_counter() - start
        if reached < accuracy:
            entry["wrong"] = f"{who}, {name} {dtype}: accuracy {reached:.2f}, expected {accuracy} or more"
        else:
            contestants.append((entry, Contestant(run)))
    return _timed(entries, contestants, rounds) | {"kind": "loop", "name": name, "dtype": dtype, "goals": {}}


def _timed(entries: list[Any], contestants: list[Any], rounds: int) -> dict[str, Any]:
    others = interleave([contestant for _, contestant in contestants], rounds)
    for entry, contestant in contestants:
        entry |= {"median": contestant.median, "spread": contestant.spread, "seconds": contestant.seconds}
    return {"entries": entries, "others": others}


def report(runs: list[dict[str, Any]]) -> Iterator[str]:
    """Lines of Markdown for one or several runs of the same cases."""
    machine = runs[0]["machine"]
    limits = {name: max(run["limits"][name] for run in runs) for name in runs[0]["limits"]}
    versions = ", ".join(f"{name} {number}" for name, number in machine["versions"].items())
    yield f"{machine['cpu']}, {machine['threads']} threads; {versions}; fastnn {machine['commit']}; {machine['date']}"
    yield (
        f"FMA peak {limits['float32'] / 1e9:.0f} GFLOP/s in float32, {limits['float64'] / 1e9:.0f} in float64; "
        f"copy {limits['copy'] / 1e9:.1f} GB/s"
    )
    for name, reason in runs[0]["missing"].items():
        yield f"{name} did not take part: {reason}"
    rows = [_merge(same) for same in zip(*(run["rows"] for run in runs), strict=True)]
    for kind, title in KINDS.items():
        for dtype in ("float32", "float64"):
            chosen = [row for row in rows if (row["kind"], row["dtype"]) == (kind, dtype)]
            if chosen:
                yield f"\n### {title}, {dtype}\n"
                yield from _loop_table(chosen) if kind == "loop" else _table(chosen, limits[dtype])
    yield from _first_calls(runs)
    yield from _doubts(runs, rows)


def _merge(same: tuple[dict[str, Any], ...]) -> dict[str, Any]:
    """The best entry of each contestant, whatever the threads and the process; those that were not timed by name."""
    best: dict[str, Any] = {}
    notes: list[str] = []
    for entry in (entry for row in same for entry in row["entries"]):
        name = entry["name"]
        if "median" not in entry:
            notes.append(entry.get("wrong") or f"{name}: {entry['missing']}")
            best.setdefault(name, None)
        elif best.get(name) is None or entry["median"] < best[name]["median"]:
            best[name] = entry
    return same[0] | {"best": best, "notes": notes}


def _table(rows: list[dict[str, Any]], peak: float) -> Iterator[str]:
    """Median µs of each contestant (on how many threads), how many times faster fastnn is than the best peer."""
    names = list(dict.fromkeys(name for row in rows for name in row["best"]))
    ours = [name for name in (LAYERS, COMPILED) if name in names]
    head = ["case, batch: µs", *names, *(f"{name}: times best peer" for name in ours), "of FMA peak"]
    yield f"| {' | '.join(head)} |"
    yield f"|{'---|' * len(head)}"
    for row in rows:
        best = row["best"]
        cells = [_time(best.get(name)) for name in names]
        peers = [best[name]["median"] for name in best if name not in ours and best[name]]
        for name in ours:
            goal = f" (≥ {row['goals'][name]:g})" if name in row["goals"] else ""
            known = peers and best.get(name)
            cells.append(f"{min(peers) / best[name]['median']:.2f}{goal}" if known else "n/a")
        fastest = min((best[name]["median"] for name in ours if best.get(name)), default=None)
        cells.append(f"{row['flops'] / fastest / peak:.0%}" if fastest and row["flops"] else "n/a")
        yield f"| {row['name']} | {' | '.join(cells)} |"


def _time(entry: dict[str, Any] | None) -> str:
    if entry is None:
        return "n/a"
    us = 1e6 * entry["median"]
    threads = f" ({entry['threads']}t)" if entry["threads"] else ""
    return (f"{us:,.0f}" if us >= 100 else f"{us:.1f}") + threads


def _loop_table(rows: list[dict[str, Any]]) -> Iterator[str]:
    """Milliseconds of each way of training, and how many times as fast as the first it is."""
    yield "| run | how | ms | times the first |"
    yield "|---|---|---|---|"
    for row in rows:
        first = next(iter(row["best"].values()))
        for name, entry in row["best"].items():
            if entry is None:
                yield f"| {row['name']} | {name} | n/a | n/a |"
            else:
                times = f"{first['median'] / entry['median']:.2f}" if first else "n/a"
                yield f"| {row['name']} | {name} | {1e3 * entry['median']:,.1f} | {times} |"


def _first_calls(runs: list[dict[str, Any]]) -> Iterator[str]:
    """What compilation costs, which the tables leave out; fastnn's kernels and PyTorch's may come from their caches."""
    seconds: dict[str, list[float]] = {}
    for row in (row for run in runs for row in run["rows"] if row["kind"] == "train"):
        for entry in row["entries"]:
            if "first_call" in entry:
                seconds.setdefault(entry["name"], []).append(entry["first_call"])
    if seconds:
        longest = ", ".join(f"{name} {max(s):.2f} (median {statistics.median(s):.2f})" for name, s in seconds.items())
        yield f"\nFirst training step, compilation included, s, at most: {longest}."


def _doubts(runs: list[dict[str, Any]], rows: list[dict[str, Any]]) -> Iterator[str]:
    """What stands against these numbers: wrong results, a busy machine, unsteady measurements."""
    yield ""
    for note in dict.fromkeys(note for row in rows for note in row["notes"]):
        yield f"Not timed: {note}"
    busy = [row["others"] for run in runs for row in run["rows"]]
    if busy and max(busy) > BUSY:
        n = sum(share > BUSY for share in busy)
        yield (
            f"**The machine was busy**: {n} of {len(busy)} cases found too few quiet rounds; others used up to "
            f"{max(busy):.0%} of a CPU; load average {max(run['load'] for run in runs):.1f} at the start."
        )
    unsteady = [
        f"{row['name']} {row['dtype']} {name} ±{entry['spread'] / 2:.0%}"
        for row in rows
        for name, entry in row["best"].items()
        if entry and entry["spread"] > UNSTEADY
    ]
    if unsteady:
        yield f"**Unsteady** (half the interquartile range): {'; '.join(unsteady)}."


if __name__ == "__main__":
    sys.exit(main())
