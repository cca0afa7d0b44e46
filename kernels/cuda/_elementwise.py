"""Launching functions of each element, of contiguous arrays; the output may be an input. See _elementwise.cuh."""

from ._launch import kernel
from ._loss import summed

_THREADS = 256
_MOST_BLOCKS = 8192  # fill any GPU several times over; beyond, each thread has more to do
_MOST_PARTS = 2048  # of a loss


def elementwise(name, function, out, first, *others):
    """Launch `function` of the source `name` on `first` (of another dtype than out, maybe) and others, into out."""
    if out.size == 0:
        return
    kernel(name, function, scalar=out.dtype, input=first.dtype)(*grid_of(out), (first, *others, out, out.size))


def elementwise_loss(name, dx, x, t):
    """Launch the loss `name`, which writes dx; returns the loss."""
    f, grid = kernel(name, name, scalar=dx.dtype, input=dx.dtype), grid_of(dx, _MOST_PARTS)
    return summed(lambda parts: f(*grid, (x, t, dx, parts, dx.size)), blocks=grid[0][0])


def grid_of(out, at_most=_MOST_BLOCKS):
    """Grid and block, of which each thread has 16 bytes of the output, or several times so many."""
    return (min(-(-out.nbytes // (16 * _THREADS)), at_most),), (_THREADS,)
