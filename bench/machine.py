"""What the machine can do, and what it is."""

from __future__ import annotations

import functools
import platform
import subprocess
import time
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numba
import numpy as np
from llvmlite import ir
from numba import njit, prange
from numba.core import cgutils
from numba.extending import intrinsic

from fastnn import _system, kernels
from fastnn.kernels.cpu._simd import VECTORS

kernels.get("cpu")  # before anything here is parallel: it loads OpenMP with the settings that fastnn's users have


@intrinsic
def _fma_loop(typing_context, repeats, like):
    """`repeats` times a fused multiply-add on each of 12 vectors: enough to hide its latency, few enough for registers.

    In LLVM's own words, because of a Numba loop it would make vectors of half the width on many CPUs with AVX-512.
    """

    def code(context, builder, signature, args):
        vector = ir.VectorType(context.get_value_type(like), VECTORS.bytes * 8 // like.bitwidth)

        def constant(value):
            return ir.Constant(vector, [value] * vector.count)

        # Of different values: equal ones would become one.
        sums = [cgutils.alloca_once_value(builder, constant(float(i))) for i in range(12)]
        name = f"llvm.fmuladd.v{vector.count}f{like.bitwidth}"
        fma = cgutils.get_or_insert_function(builder.module, ir.FunctionType(vector, [vector] * 3), name)
        with cgutils.for_range(builder, args[0]):
            for total in sums:
                builder.store(builder.call(fma, [builder.load(total), constant(0.5), constant(0.25)]), total)
        total = functools.reduce(builder.fadd, map(builder.load, sums))
        return builder.extract_element(total, ir.Constant(ir.IntType(32), 0))

    return like(repeats, like), code


@njit(parallel=True)
def _fma_on_all_threads(out, repeats):
    for k in prange(out.size):
        out[k] = _fma_loop(repeats, out[k])


@njit(parallel=True)
def _copy(source, target):
    for k in prange(source.shape[0]):
        target[k] = source[k]


def _best(call: Any, repeats: int = 40) -> float:
    """The shortest of repeated calls; with rests, in which whatever else the machine was doing may end."""
    call()
    seconds = []
    for _ in range(repeats):
        time.sleep(0.02)
        start = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - start)
    return min(seconds)


def fma_peak(dtype: str) -> float:
    """Floating-point operations a second of fused multiply-adds, all threads together."""
    out, repeats = np.zeros(numba.get_num_threads(), dtype), 1_000_000
    vectors = 12 * repeats * out.size
    return 2 * vectors * VECTORS.bytes / out.itemsize / _best(lambda: _fma_on_all_threads(out, repeats))


def copy_bandwidth() -> float:
    """Bytes a second, read and written, of copying 128 MB."""
    source = np.ones((numba.get_num_threads(), 2**24 // numba.get_num_threads()))
    target = np.zeros_like(source)
    return 2 * source.nbytes / _best(lambda: _copy(source, target))


def limits() -> dict[str, float]:
    """The machine's peaks: floating-point operations a second by dtype, and bytes a second that a copy moves."""
    return {"float32": fma_peak("float32"), "float64": fma_peak("float64"), "copy": copy_bandwidth()}


def describe() -> dict[str, Any]:
    """CPU, versions and commit, for the record."""
    versions = {"python": platform.python_version()}
    for package in ("numpy", "numba", "llvmlite", "torch", "jax", "onnxruntime"):
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            versions[package] = "not installed"
    git = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty", "--abbrev=10"]
    try:
        commit = subprocess.run(git, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        commit = "unknown"
    return {
        "cpu": _system.cpu_name(),
        "features": _system.cpu_features(),
        "threads": numba.get_num_threads(),
        "versions": versions,
        "commit": commit,
        "date": time.strftime("%Y-%m-%d %H:%M"),
    }
