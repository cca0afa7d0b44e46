"""Launching functions of each element, of contiguous arrays; the output may be an input. See _elementwise.cuh."""

from ._launch import kernel

_THREADS = 256
_MOST_BLOCKS = 8192  # fill any GPU several times over; beyond, each thread has more to do


def elementwise(name, function, out, first, *others):
    """Launch `function` of the source `name` on `first` (of another dtype than out, maybe) and others, into out."""
    if out.size == 0:
        return
    kernel(name, function, scalar=out.dtype, input=first.dtype)(*grid_of(out), (first, *others, out, out.size))


def grid_of(out):
    """Grid and block, of which each thread has 16 bytes of the output, or several times so many."""
    return (min(-(-out.nbytes // (16 * _THREADS)), _MOST_BLOCKS),), (_THREADS,)
