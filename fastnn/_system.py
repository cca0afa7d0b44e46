"""What ``fastnn info`` tells of the machine, in words."""

from __future__ import annotations

import ctypes
import importlib.util
import os
import platform
import shutil
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np

from ._version import __version__

# LLVM's names of what a CPU can do, in the order in which they are told; what is not here matters to no kernel.
FEATURES = {
    "avx512f": "AVX-512", "avx512vnni": "AVX-512 VNNI", "avx512bf16": "AVX-512 BF16", "avx512fp16": "AVX-512 FP16",
    "amx-tile": "AMX", "avx2": "AVX2", "fma": "FMA", "f16c": "F16C", "avx": "AVX", "sse4.2": "SSE4.2",
    "sve2": "SVE2", "sve": "SVE", "neon": "NEON", "dotprod": "dot product", "bf16": "BF16", "i8mm": "int8 products",
}  # fmt: skip


def describe() -> dict[str, str]:
    """Return name -> value, in the order in which they are printed.

    Returns
    -------
    dict of str to str
        Versions, CPU, threads, kernel cache and GPU.
    """
    import llvmlite
    import numba

    return {
        "fastnn": __version__,
        "Python": f"{platform.python_version()} on {platform.system()} {platform.machine()}",
        "NumPy": f"{np.__version__}, BLAS: {_blas()}",
        "Numba": numba.__version__,
        "llvmlite": llvmlite.__version__,
        "CPU": cpu_name(),
        "CPU features": cpu_features(),
        "threads": f"{numba.get_num_threads()} of {_usable_cpus()} usable CPUs",
        "kernel cache": kernel_cache(),
        "GPU": gpu(),
    }


def cpu_name() -> str:
    """Name of the processor as its maker writes it."""
    try:
        if sys.platform == "linux":
            for line in Path("/proc/cpuinfo").read_text().splitlines():
                if line.startswith("model name"):
                    return line.partition(":")[2].strip()
        elif sys.platform == "darwin":
            command = ["sysctl", "-n", "machdep.cpu.brand_string"]
            return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        pass
    return platform.processor() or platform.machine()


def cpu_features() -> str:
    """The vector instructions that Numba compiles for."""
    import llvmlite.binding as llvm

    try:
        host = llvm.get_host_cpu_features()
    except RuntimeError:  # LLVM does not know how to ask this CPU
        return "unknown"
    return ", ".join(words for feature, words in FEATURES.items() if host.get(feature)) or "none that fastnn uses"


def kernel_cache() -> str:
    """Folder of the compiled kernels, and what is in it."""
    from .kernels.cpu._cache import cache_dir

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        folder = cache_dir()
    if folder is None:
        return f"none: {caught[-1].message}" if caught else "none"
    files = [path for path in folder.iterdir() if path.is_file()]
    size = sum(path.stat().st_size for path in files)
    return f"{folder} ({len(files)} files, {size / 1e6:.1f} MB)"


def kernel_cache_folder() -> Path:
    """Folder of the compiled kernels of all versions of fastnn."""
    from .kernels.cpu._cache import cache_root

    return cache_root()


def clear_kernel_cache() -> tuple[Path, int, int]:
    """Remove the compiled kernels of all versions: their folder, how many files they were, how many bytes."""
    root = kernel_cache_folder()
    folders = [folder for folder in root.glob("kernels-*") if folder.is_dir() and not folder.is_symlink()]
    sizes = [path.stat().st_size for folder in folders for path in folder.iterdir()]
    for folder in folders:
        shutil.rmtree(folder)
    return root, len(sizes), sum(sizes)


def count_compiled_kernels() -> int:
    """How many compiled kernels the cache keeps."""
    from .kernels.cpu._cache import cache_dir

    folder = cache_dir()
    return len(list(folder.glob("*.nbc"))) if folder else 0


def gpu() -> str:
    """The GPU; or what was found of what it takes, and what is missing."""
    from .kernels import gpu_problem

    driver = _cuda_driver()
    name = _gpu_name(driver) if driver else None
    if name:
        problem = gpu_problem()
        return f"{name}, not used: {problem}" if problem else name
    what = "the NVIDIA driver sees no device" if driver else "no NVIDIA driver"
    return f"none found ({what}; CuPy is {'' if importlib.util.find_spec('cupy') else 'not '}installed)"


def _cuda_driver() -> ctypes.CDLL | None:
    """The driver's own library: no CUDA package is needed to ask it."""
    try:
        return ctypes.CDLL("nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1")
    except OSError:
        return None


def _gpu_name(driver: ctypes.CDLL) -> str | None:
    """Name of the first NVIDIA GPU."""
    device, name = ctypes.c_int(), ctypes.create_string_buffer(256)
    ok = (
        driver.cuInit(0) == 0
        and driver.cuDeviceGet(ctypes.byref(device), 0) == 0
        and driver.cuDeviceGetName(name, len(name), device) == 0
    )
    return name.value.decode(errors="replace") if ok else None


def _usable_cpus() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _blas() -> str:
    blas = np.show_config(mode="dicts")["Build Dependencies"]["blas"]
    return f"{blas['name']} {blas['version']}"
