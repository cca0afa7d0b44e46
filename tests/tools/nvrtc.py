"""NVIDIA's run-time compiler, which needs no GPU: what it makes of a source, and what that takes of a GPU."""

import ctypes
import functools
import importlib.util
import re
from pathlib import Path


@functools.cache
def library():
    """The compiler's library: of the package nvidia-cuda-nvrtc, or of the system; None where there is none."""
    for name in [*map(str, _packaged("libnvrtc.so*")), "libnvrtc.so", "libnvrtc.so.13", "libnvrtc.so.12"]:
        try:
            return ctypes.CDLL(name)
        except OSError:
            continue
    return None


@functools.cache
def headers():
    """The folders of CUDA's headers, from NVIDIA's packages; empty where there are none."""
    return [folder for path in _packaged("cooperative_groups.h") for folder in (path.parent, path.parent / "cccl")]


def _packaged(name):
    """Where a file is in NVIDIA's packages."""
    spec = importlib.util.find_spec("nvidia")
    return (
        sorted(path for folder in spec.submodule_search_locations for path in Path(folder).rglob(name)) if spec else []
    )


def resources(source, options):
    """What each kernel takes: registers of a thread, bytes that did not fit into them. Raises the compiler's words."""
    log = _log(source, options)
    entries = re.findall(r"entry function '(\w+)'.*?(\d+) bytes spill stores.*?Used (\d+) registers", log, re.DOTALL)
    return {name: (int(registers), int(spilled)) for name, spilled, registers in entries}


def _log(source, options):
    nvrtc, program, size = library(), ctypes.c_void_p(), ctypes.c_size_t()
    assert nvrtc.nvrtcCreateProgram(ctypes.byref(program), source.encode(), b"kernels.cu", 0, None, None) == 0
    try:
        given = (ctypes.c_char_p * len(options))(*(option.encode() for option in options))
        failed = nvrtc.nvrtcCompileProgram(program, len(options), given)
        nvrtc.nvrtcGetProgramLogSize(program, ctypes.byref(size))
        log = ctypes.create_string_buffer(size.value)
        nvrtc.nvrtcGetProgramLog(program, log)
        if failed:
            raise RuntimeError(log.value.decode())
        return log.value.decode()
    finally:
        nvrtc.nvrtcDestroyProgram(ctypes.byref(program))
