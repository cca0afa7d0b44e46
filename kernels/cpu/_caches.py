"""What kernels take into account of a CPU's caches."""

from ._jit import jit

LINE_BYTES = 64  # a vector that crosses a line takes two reads, or writes
PAST_CACHES = 32 << 20  # bytes of an output that no cache would keep


@jit
def round_up(value, unit):
    return (value + unit - 1) // unit * unit


@jit
def odd_lines(elements, line):
    """The next odd number of cache lines: rows at multiples of 4 KB displace each other from the cache."""
    return (round_up(elements, line) // line | 1) * line
