"""How many threads the calling thread may use; each kernel decides, call by call, whether it does."""

import contextlib
import functools
import logging
import operator
import os
import threading
from collections.abc import Iterator
from multiprocessing import parent_process


def _most() -> int:
    from numba.core import config

    return int(config.NUMBA_NUM_THREADS)  # type: ignore[attr-defined]  # set when it is loaded


class _Limit(threading.local):
    """Of each Python thread; found at its first call, since a spawned process learns late that it is a worker."""

    @functools.cached_property
    def threads(self) -> int:
        """All that Numba has; one for the worker of a pool, which has the others beside it."""
        told = any(name in os.environ for name in ("NUMBA_NUM_THREADS", "OMP_NUM_THREADS"))
        if forked or (parent_process() is not None and not told):
            return 1
        return _most()


limit = _Limit()
forked = False  # a forked child has no threads but its own


def _after_fork() -> None:
    global forked
    forked = True
    limit.threads = 1
    logging.getLogger("fastnn").info("process %d was forked: its kernels run on one thread", os.getpid())


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


def set_num_threads(n: int) -> None:
    """Let the kernels that the calling Python thread runs use up to `n` threads.

    Results do not depend on it, bit for bit. Other Python threads keep their own number. Until it is called, that is
    what Numba has (``NUMBA_NUM_THREADS``, or all usable cores); in worker processes of `multiprocessing` it is 1. A
    forked process computes on one thread, always.

    Parameters
    ----------
    n : int
        At least 1, at most the threads that Numba has.

    Raises
    ------
    ValueError
        For another number.

    Examples
    --------
    >>> import fastnn
    >>> before = fastnn.get_num_threads()
    >>> fastnn.set_num_threads(1)
    >>> fastnn.get_num_threads()
    1
    >>> fastnn.set_num_threads(before)
    """
    import numba

    most, why = (1, "this process was forked") if forked else (_most(), "NUMBA_NUM_THREADS")
    n = operator.index(n)
    if not 1 <= n <= most:
        raise ValueError(f"fastnn.set_num_threads: n must be between 1 and {most} ({why}), got {n}")
    numba.set_num_threads(n)
    limit.threads = n


def get_num_threads() -> int:
    """How many threads the kernels that the calling Python thread runs may use.

    Examples
    --------
    >>> import fastnn
    >>> fastnn.get_num_threads() >= 1
    True
    """
    return limit.threads


@contextlib.contextmanager
def threads(n: int) -> Iterator[None]:
    """Within a ``with`` statement, what `set_num_threads` does; afterwards all is as before.

    Examples
    --------
    >>> import fastnn
    >>> with fastnn.threads(1):
    ...     fastnn.get_num_threads()
    1
    """
    import numba

    before, of_numba = limit.threads, numba.get_num_threads()
    set_num_threads(n)
    try:
        yield
    finally:
        limit.threads = before
        numba.set_num_threads(of_numba)
