"""Measure the errors of the elementary functions; ``python -m bench.accuracy > docs/accuracy.md``.

Float32 functions are held against float64 over all bit patterns with a stride, float64 functions against the 80-bit
floats of x86 at ten million points; in one process for each kind of CPU, from the same machine.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from fastnn.kernels.cpu import _math
from fastnn.kernels.cpu._jit import entry

from .cases import Array

CPUS = {"AVX-512": {}, "AVX2": {"NUMBA_CPU_NAME": "haswell"}, "neither, no FMA": {"NUMBA_CPU_NAME": "generic"}}
CHUNK = 2**20


@entry
def exp(x: Array, out: Array) -> None:
    for i in range(x.size):
        out[i] = _math.exp(x[i])


@entry
def log(x: Array, out: Array) -> None:
    for i in range(x.size):
        out[i] = _math.log(x[i])


@entry
def sigmoid(x: Array, out: Array) -> None:
    for i in range(x.size):
        out[i] = _math.sigmoid(x[i])


@entry
def tanh(x: Array, out: Array) -> None:
    for i in range(x.size):
        out[i] = _math.tanh(x[i])


@entry
def softplus(x: Array, out: Array) -> None:
    for i in range(x.size):
        out[i] = _math.softplus(x[i])


@entry
def expm1_negative(x: Array, out: Array) -> None:
    for i in range(x.size):
        out[i] = _math.expm1_negative(x[i])


@entry
def erf(x: Array, out: Array) -> None:
    for i in range(x.size):
        out[i] = _math.erf(x[i])


def _sigmoid(x: Array) -> Array:
    z = np.exp(-abs(x))
    return np.where(x < 0, z, 1) / (1 + z)


# name -> (compiled loop, the function in more digits, most units in the last place that it may be off)
FUNCTIONS: dict[str, tuple[Any, Callable[[Array], Array], float]] = {
    "exp": (exp, np.exp, 1.1),
    "log": (log, np.log, 1.1),
    "sigmoid": (sigmoid, _sigmoid, 2.5),
    "tanh": (tanh, np.tanh, 2.5),
    "softplus": (softplus, lambda x: np.maximum(x, 0) + np.log1p(np.exp(-abs(x))), 2.5),
    "expm1_negative": (expm1_negative, np.expm1, 1.2),
    "erf": (erf, np.vectorize(math.erf, otypes=["float64"]), 2.0),  # float64: as far as this reference is exact
}


def points(name: str, dtype: str, stride: int, count: int) -> Iterator[Array]:
    """Arguments of a function, in chunks: every stride-th bit pattern of float32, or so many float64 numbers."""
    rng = np.random.default_rng(0)
    step = CHUNK * stride if dtype == "float32" else CHUNK
    for start in range(0, 2**32 if dtype == "float32" else count, step):
        if dtype == "float32":
            x = np.arange(start, min(start + step, 2**32), stride, dtype=np.uint32).view(dtype)
        else:  # a quarter of bit patterns, the others where things happen
            n = min(CHUNK, count - start) // 4
            patterns = rng.integers(0, 2**64, n, dtype=np.uint64).view(dtype)
            magnitudes = 2 ** rng.uniform(-30, 10, n) * rng.choice([-1.0, 1.0], n)
            near = 1 + rng.normal(0, 0.1, n) if name == "log" else rng.standard_normal(n)
            x = np.concatenate([patterns, magnitudes, near, rng.uniform(-30, 30, n)])
        x = x[np.isfinite(x)]
        yield abs(x) if name == "log" else -abs(x) if name == "expm1_negative" else x


def worst(name: str, dtype: str, stride: int = 61, count: int = 10_000_000) -> tuple[float, float]:
    """The largest error, in units in the last place, and where; infinite if a result is wrongly finite or not."""
    own, exact, _ = FUNCTIONS[name]
    error, where = 0.0, math.nan
    if name == "erf":  # its reference computes one number at a time
        stride, count = 40 * stride + 1, count // 20
    for x in points(name, dtype, stride, count):
        got = np.empty_like(x)
        own(x, got)
        with np.errstate(all="ignore"):
            want = exact(x.astype(np.float64 if dtype == "float32" or name == "erf" else np.longdouble))
            rounded = want.astype(dtype)
            unit = np.spacing(np.maximum(abs(rounded), np.finfo(dtype).smallest_subnormal))
            errors = np.where(
                np.isfinite(rounded) & np.isfinite(got), abs(got - want) / unit, np.where(got == rounded, 0.0, np.inf)
            )
        i = int(np.argmax(errors))
        if errors[i] > error:
            error, where = float(errors[i]), float(x[i])
    return error, where


def main(arguments: list[str] | None = None) -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(prog="python -m bench.accuracy", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--stride", type=int, default=61, help="of the bit patterns of float32 (default 61)")
    parser.add_argument("--in-process", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    kinds = [(name, dtype) for name in FUNCTIONS for dtype in ("float32", "float64")]
    if options.in_process:
        print(json.dumps([worst(name, dtype, options.stride) for name, dtype in kinds]))
        return 0
    command = [sys.executable, "-m", "bench.accuracy", "--in-process", "--stride", str(options.stride)]
    columns = []
    for settings in CPUS.values():
        environment = os.environ | settings | ({"NUMBA_CPU_FEATURES": ""} if settings else {})
        columns.append(json.loads(subprocess.run(command, env=environment, stdout=subprocess.PIPE, check=True).stdout))
    print("\n".join(report(kinds, columns)))
    return 0


def report(kinds: list[tuple[str, str]], columns: list[list[tuple[float, float]]]) -> Iterator[str]:
    """The page."""
    yield INTRODUCTION
    yield f"| function | dtype | bound | {' | '.join(CPUS)} |"
    yield f"|{'---|' * (3 + len(CPUS))}"
    for (name, dtype), *errors in zip(kinds, *columns, strict=True):
        cells = " | ".join(f"{error:.2f} at {x:.6g}" for error, x in errors)
        yield f"| {name} | {dtype} | {FUNCTIONS[name][2]} | {cells} |"
    yield REMARKS


INTRODUCTION = """# Accuracy of the elementary functions

Largest errors, in units in the last place of the result, subnormal results included. float32: all finite arguments with
a stride of 61 bit patterns (erf: 2,441), against float64. float64: 10 million arguments (erf: 500,000), over all
exponents and dense where the functions bend, against the 80-bit floats of x86 (erf: against the C library's). ±inf, NaN
and ±0 give what they give in NumPy. `python -m bench.accuracy > docs/accuracy.md` writes this page.
"""
REMARKS = """
`expm1_negative` is exp(x) - 1 for x ≤ 0, of which tanh and the gradient of softplus are made. gelu and silu are x times
a function of erf and sigmoid, as in PyTorch: where gelu vanishes, for x < -3, its error is small relative to x only."""


if __name__ == "__main__":
    sys.exit(main())
