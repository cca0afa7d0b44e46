"""Compiling and launching CUDA C: the sources beside this file, by NVRTC, through CuPy.

A source is compiled once for each choice of types, when a kernel of it is first launched, and kept by CuPy between
processes. ``-Dscalar=float`` and the like choose the types. CuPy's cache does not see included files, so they are put
in their place here. Kernels are launched on CuPy's current stream; nothing waits for them. Python's int arrives as long
long, its float as double, an array as its address.
"""

import functools
import re
from pathlib import Path

import cupy

C_TYPES = {
    "float16": "half",
    "float32": "float",
    "float64": "double",
    "int32": "int",
    "int64": "long long",
    "uint8": "unsigned char",
    "uint16": "unsigned short",
    "uint32": "unsigned",
}
# The rules of optimizers give NumPy's bits, and no slower: they wait for memory.
_FLAGS = {"optimizer": ("--fmad=false",)}
_INCLUDE = re.compile(r'^#include "(\w+\.cuh)"\n', re.MULTILINE)


def source(name):
    """The text of a source, with what it includes, each once."""
    seen = set()

    def text(file):
        if file in seen:
            return ""
        seen.add(file)
        return _INCLUDE.sub(lambda match: text(match[1]), (Path(__file__).parent / file).read_text(encoding="utf-8"))

    return text(f"{name}.cu")


def options(name, types):
    """How NVRTC is to compile the source `name` for some dtypes, given by the names that the source has for them."""
    chosen = (f"-D{word}={C_TYPES[dtype.name]}" for word, dtype in types.items())
    return ("-std=c++17", *chosen, *_FLAGS.get(name, ()))


@functools.cache
def _module(name, **types):
    code = source(name)
    return cupy.RawModule(
        code=code, options=options(name, types), enable_cooperative_groups="cooperative_groups" in code
    )


@functools.cache
def kernel(name, function, **types):
    """A kernel of the source `name`, to be called with grid, block and arguments."""
    return _module(name, **types).get_function(function)


def multiprocessors():
    """How many of them the current device has."""
    return _multiprocessors(cupy.cuda.Device().id)


@functools.cache
def _multiprocessors(device):
    return cupy.cuda.Device(device).attributes["MultiProcessorCount"]
