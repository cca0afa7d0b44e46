"""Every CUDA C source compiles for every generation of GPUs, and its kernels keep their values in registers.

With --device cuda and NVIDIA's compiler, which takes no GPU; where grids wait, also with the headers of CUDA:
pip install nvidia-cuda-nvrtc nvidia-cuda-runtime nvidia-cuda-crt nvidia-cuda-cccl
"""

import itertools
import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from fastnn import kernels
from tests.tools import nvrtc

ROOM = Path(kernels.__file__).parent / "cuda"
# What the types that a source has names for may be; tests/kernels/ runs no others.
TYPES = {
    "scalar": ["float32", "float64"],
    "input": ["float16", "float32", "float64"],
    "label": ["int32", "int64"],
    "place_t": ["uint8", "uint16", "uint32"],
}
AS_CUPY = ("-ftz=true", "--device-as-default-execution-space")  # options that it adds
ARCHITECTURES = ["sm_75", "sm_80", "sm_90", "sm_100"]  # T4, A100, H100, B200
# Registers of a thread: what leaves room for enough threads on a multiprocessor. For sums in registers, more.
MOST_REGISTERS = {"float32": 64, "float64": 96}
SUMS = {"product_large": 128, "product_medium": 128, "product_small": 192, "optimizer_update": 96}
SUMS |= {
    "convolve_gradients": 168,
    "convolve_8": 128,
    "convolve_32": 192,
    "convolve_64": 255,
    "mlp_train": 128,
    "mlp_predict": 128,
}


@pytest.fixture(scope="module")
def launch(device):
    if device != "cuda":
        pytest.skip("runs with --device cuda")
    if nvrtc.library() is None:
        pytest.skip("needs NVIDIA's compiler: pip install nvidia-cuda-nvrtc")
    return kernels.get("cuda")._launch


def variants(text):
    """All choices of types for a source, as the dtypes of their names."""
    named = [word for word in TYPES if re.search(rf"\b{word} \*", text)]
    for chosen in itertools.product(*(TYPES[name] for name in named)):
        types = dict(zip(named, chosen, strict=True))
        widened = {"float16": "float32"}.get(types.get("input"), types.get("input"))
        if widened in (None, types.get("scalar")):
            yield types


@pytest.mark.parametrize("name", sorted(path.stem for path in ROOM.glob("*.cu")))
def test_compiles_without_spilling(launch, name):
    text = launch.source(name)
    if "cooperative_groups.h" in text and not nvrtc.headers():
        pytest.skip("needs headers of CUDA: pip install nvidia-cuda-runtime nvidia-cuda-crt nvidia-cuda-cccl")

    def compiled(variant):
        types, architecture = variant
        options = launch.options(name, {word: np.dtype(dtype) for word, dtype in types.items()})
        options += (
            *AS_CUPY,
            f"-arch={architecture}",
            "--ptxas-options=-v",
            *(f"-I{folder}" for folder in nvrtc.headers()),
        )
        return types.get("scalar", "float64"), nvrtc.resources(text, options)

    every = list(variants(text))
    jobs = [(types, "sm_90") for types in every] + [(every[0], other) for other in ARCHITECTURES if other != "sm_90"]
    with ThreadPoolExecutor() as threads:
        for scalar, resources in threads.map(compiled, jobs):
            assert resources
            for kernel, (registers, spilled) in resources.items():
                assert spilled == 0, f"{kernel} of {scalar} spills {spilled} bytes"
                assert registers <= SUMS.get(kernel, MOST_REGISTERS[scalar]), f"{kernel} of {scalar}: {registers}"
