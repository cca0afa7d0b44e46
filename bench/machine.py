"""What the machine is and can do, for the record, and what a measurement amounts to on it."""

from __future__ import annotations

import dataclasses
import os
import platform
import subprocess
import time
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import fastnn
from fastnn import _system

PACKAGES = ("numpy", "numba", "llvmlite", "torch", "jax", "onnxruntime", "scikit-learn")


def describe() -> dict[str, Any]:
    """CPU, its limits, versions, commit, date and load."""
    versions = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            versions[package] = "not installed"
    return {
        "cpu_name": _system.cpu_name(),
        "cpu_features": _system.cpu_features(),
        "versions": versions,
        "commit": commit(),
        "date": time.strftime("%Y-%m-%d %H:%M"),
        "load": os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0,
        "roofline": limits(),
    }


def commit() -> str:
    """What is checked out here."""
    git = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty", "--abbrev=10"]
    try:
        return subprocess.run(git, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def limits(before: dict[str, Any] | None = None) -> dict[str, Any]:
    """What the machine can do at most; the better of now and before, when it may have been busy."""
    now = dataclasses.asdict(fastnn.roofline())
    if before is None:
        return now
    flops = {dtype: max(now["flops"][dtype], before["flops"][dtype]) for dtype in now["flops"]}
    return {name: max(now[name], before[name]) for name in now if name != "flops"} | {"flops": flops}


def rates(roofline: dict[str, Any], record: dict[str, Any]) -> dict[str, float]:
    """What a record's median time amounts to, and how near to the machine's limits that is."""
    most, seconds = fastnn.Roofline(**roofline), record["median"]
    flops, moved, dtype = record["flops"], record["bytes"], record["dtype"]
    found = {}
    if record["samples"]:
        found["samples_per_s"] = record["samples"] / seconds
    if flops:
        found |= {"gflops": flops / seconds / 1e9, "of_fma_peak": flops / seconds / most.flops[dtype]}
    if moved:
        found |= {"gbytes": moved / seconds / 1e9, "of_copy": moved / seconds / most.copy}
        found["of_roofline"] = most.seconds(flops, moved, dtype) / seconds
    return found
