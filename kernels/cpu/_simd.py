"""Which vectors has the CPU that Numba compiles for (NUMBA_CPU_NAME and NUMBA_CPU_FEATURES included)?

The size of a register tile follows: an accumulator for each row and vector, and registers to spare for B and for A.
"""

import ctypes
import functools
import os
import platform
import sys
from typing import NamedTuple

from numba.core import config
from numba.core.registry import cpu_target


class Vectors(NamedTuple):
    name: str
    bytes: int  # width of a vector
    tile_sums: int  # most accumulators of a tile: 2-3 vectors of B and 1-2 of A need registers, too


AVX512 = Vectors("avx512", 64, 28)  # 32 registers
AVX2 = Vectors("avx2", 32, 12)  # 16 registers
NEON = Vectors("neon", 16, 28)  # 32 registers
GENERIC = Vectors("generic", 16, 12)  # SSE2 on x86, whatever LLVM makes of 16 bytes elsewhere


def detect(triple, cpu_name, features):
    """The vectors of a target as LLVM describes it; `features`: "+avx,-avx2", or empty where only the name is known."""
    on = {feature[1:] for feature in features.split(",") if feature.startswith("+")}
    if triple.startswith(("aarch64", "arm64")):
        return NEON
    if "avx512f" in on or (not on and cpu_name.startswith(_NAMES_AVX512)):
        return AVX512
    if {"avx2", "fma"} <= on or (not on and cpu_name.startswith(_NAMES_AVX2)):
        return AVX2
    return GENERIC


_NAMES_AVX512 = (
    "skylake-avx512", "cascadelake", "cooperlake", "icelake", "tigerlake", "rocketlake", "sapphirerapids",
    "emeraldrapids", "graniterapids", "znver4", "znver5", "x86-64-v4",
)  # fmt: skip
_NAMES_AVX2 = (
    "haswell", "broadwell", "skylake", "alderlake", "raptorlake", "meteorlake", "arrowlake", "lunarlake",
    "gracemont", "znver1", "znver2", "znver3", "x86-64-v3", "core-avx2",
)  # fmt: skip


def _target():
    triple, cpu_name, features = cpu_target.target_context.codegen().magic_tuple()
    if config.CPU_NAME is not None and config.CPU_FEATURES is None and cpu_name.startswith(_NAMES_AVX512 + _NAMES_AVX2):
        features = ""  # Numba takes the host's in this case; who names a CPU means its vectors
    return triple, cpu_name, features


VECTORS = detect(*_target())


@functools.cache
def has_amx():
    """Is there Intel's matrix unit, with bfloat16? Linux lends it to who asks; with FASTNN_AMX=0 nobody does."""
    features = _target()[2].split(",")
    if VECTORS is not AVX512 or not {"+amx-tile", "+amx-bf16"} <= set(features) or os.environ.get("FASTNN_AMX") == "0":
        return False
    if sys.platform != "linux" or platform.machine() != "x86_64":
        return False
    arch_prctl, request, tile_data = 158, 0x1023, 18  # ARCH_REQ_XCOMP_PERM, of the component XTILEDATA
    return ctypes.CDLL(None).syscall(arch_prctl, request, tile_data) == 0
