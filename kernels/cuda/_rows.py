"""Launching work on the rows of matrices (N, C): see _rows.cuh."""

from ._launch import kernel

_LANES_UP_TO = 1024  # columns; beyond, a row is a block's
_MOST_BLOCKS = 4096  # the number of partial losses, too


def teams(N, C, itemsize):
    """How N rows are worked on: the ending of the kernel's name, blocks, threads of each, the last arguments."""
    if C > _LANES_UP_TO:
        threads = min(4096 // itemsize, max(128, 1 << (C // 16).bit_length() - 1))
        return "by_blocks", min(N, _MOST_BLOCKS), threads, (N, C)
    lanes = min(32, 1 << (-(-C // 4) - 1).bit_length())  # four elements each, up to a warp
    return "by_lanes", min(-(-N * lanes // 128), _MOST_BLOCKS), 128, (N, C, lanes)


def over_rows(name, function, *arrays):
    """Launch `function` of the source `name` on arrays (N, C)."""
    N, C = arrays[0].shape
    if N:
        ending, blocks, threads, sizes = teams(N, C, arrays[0].itemsize)
        kernel(name, f"{function}_{ending}", scalar=arrays[0].dtype)((blocks,), (threads,), (*arrays, *sizes))
