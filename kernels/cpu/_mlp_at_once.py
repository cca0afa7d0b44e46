"""Training steps, and predictions, called past Numba's dispatcher: see _objects.py.

Small ones because of its 0.3 µs, large ones because what Python does before them takes 10 µs with cold caches.
"""

import sys

import numpy as np

from ._jit import jit
from ._memory import call, load
from ._mlp_plan import CROSS_ENTROPY, DONE, IN, LOSS, OUT
from ._objects import (
    CONTIGUOUS_ALIGNED,
    DATA,
    DESCR,
    ERROR,
    FALSE,
    FLOAT32,
    INTP,
    NO,
    OWN,
    SHAPE,
    TRUE,
    VALUE,
    WRITEABLE,
    YES,
    answer,
    begin_work,
    calling_thread,
    end_work,
    has_list,
    is_plain,
    ndim,
    new_float,
    python_function,
    read,
    table_of,
    this_thread,
)

_DTYPE, _FUNCTION, _TABLE, _LENGTH, _SQUARES, _FEATURES, _CLASSES, _MOST_ROWS = range(OWN, OWN + 64, 8)
_ALONE_ROWS, _LOSS = range(OWN + 64, OWN + 80, 8)  # up to so many are left to one thread; where a step's loss is put
# The thread that a prediction's memory is for; an address of rows, how many there are, and the name "params".
_THREAD, _WATCHED, _LAYERS, _PARAMS = range(OWN + 80, OWN + 112, 8)
_LAYER, _FIRST, _LAST, _WATCHED_BYTES = range(0, 32, 8)  # a row: objects by their addresses
_NAME = sys.intern("params")


def step_at_once(train, table, squares, dtype, alone_rows, most_rows):
    """at_once(x, t, numbers, max_norm) does one step, and returns its loss; or False, and nothing has happened.

    Arguments: as of `mlp_train`; x of at most so many rows, up to so many of which are left to one thread; t either
    kind of labels, which may be wrong, or targets. train: address of the compiled function, see mlp.py.
    """
    return _at_once(_step, table, squares, dtype, train, alone_rows, most_rows)


def prediction_at_once(predict, table, dtype, alone_rows, watched):
    """at_once(x, out, probabilities) does as `mlp_predict`, and returns True; or False. Otherwise as `step_at_once`.

    watched: layers, each with the first and the last of its ``params``. False as well once these are others, which
    takes Python 0.6 µs to find out, with caches full of weights; and in another thread than that which calls this.
    Beside it returns what must live as long.
    """
    rows = np.array([[*map(id, row)] for row in watched], np.int64)
    watching = this_thread(), rows.ctypes.data, len(rows), id(_NAME)
    return _at_once(_predict, table, table, dtype, predict, alone_rows, sys.maxsize, *watching), (rows, watched)


def _at_once(function, table, squares, dtype, compiled, alone_rows, most_rows, *watching):
    known = table_of(
        id(dtype), compiled, table.ctypes.data, len(table), squares.ctypes.data, table[1, IN], table[-1, OUT],
        most_rows, alone_rows, 0, *watching,
    )  # fmt: skip
    return python_function(function, known)


@jit
def _is_matrix(table, obj, flags, columns):
    return is_plain(table, obj, read(table, _DTYPE), flags) and ndim(obj) == 2 and read(read(obj, SHAPE), 8) == columns


@jit
def _rows_of(table, x):
    """How many samples x holds; 0 if it is not as it should be."""
    if not _is_matrix(table, x, CONTIGUOUS_ALIGNED, read(table, _FEATURES)):
        return 0
    n = read(read(x, SHAPE), 0)
    return n if n <= read(table, _MOST_ROWS) else 0


@jit
def _work_of_step(table, args, count):
    if count != 4:
        return NO
    x, t, numbers, max_norm = read(args, 0), read(args, 8), read(args, 16), read(args, 24)
    n, classes = _rows_of(table, x), read(table, _CLASSES)
    has_labels = read(read(table, _TABLE), 8 * LOSS) == CROSS_ENTROPY
    indices = n if has_labels and is_plain(table, t, read(table, INTP)) and ndim(t) == 1 else 0
    if indices == 0 and not (_is_matrix(table, t, CONTIGUOUS_ALIGNED, classes) and n * classes > 1):
        return NO
    if n == 0 or read(read(t, SHAPE), 0) != n:
        return NO
    shape, labels = read(numbers, SHAPE), read(t, DATA)
    x, numbers, max_norm = read(x, DATA), read(numbers, DATA), load(max_norm, VALUE // 8, 0.0)
    is_large = n > read(table, _ALONE_ROWS)
    threads, python = begin_work(table, is_large)
    if threads == 0:
        return ERROR
    call(
        read(table, _FUNCTION), read(table, _TABLE), read(table, _LENGTH), read(table, _SQUARES), x,
        labels if indices > 0 else 0, labels if indices == 0 else 0, 0, n, numbers, read(shape, 0), read(shape, 8),
        max_norm, table + _LOSS, 1, threads,
    )  # fmt: skip
    end_work(is_large, python)
    return read(read(table, _TABLE), 8 * DONE)


def _step(table, args, count):
    """What Python calls."""
    table = read(table, DATA)
    done = _work_of_step(table, args, count)
    return new_float(load(table + _LOSS, 0, 0.0)) if done == YES else answer(table, done)


@jit
def _is_current(table):
    """Whether the memory is for this thread, and the layers' parameters are those of which the plan has addresses."""
    if calling_thread() != read(table, _THREAD):
        return False
    row = read(table, _WATCHED)
    for _ in range(read(table, _LAYERS)):
        if not has_list(table, read(row, _LAYER), read(table, _PARAMS), read(row, _FIRST), read(row, _LAST)):
            return False
        row += _WATCHED_BYTES
    return True


@jit
def _work_of_prediction(table, args, count):
    if count != 3 or not _is_current(table):
        return NO
    x, out, probabilities = read(args, 0), read(args, 8), read(args, 16)
    n, wanted = _rows_of(table, x), probabilities == read(table, TRUE)
    if (
        n == 0
        or not (wanted or probabilities == read(table, FALSE))
        or not _is_matrix(table, out, CONTIGUOUS_ALIGNED | WRITEABLE, read(table, _CLASSES))
        or read(read(out, SHAPE), 0) != n
    ):
        return NO
    size = 4 if read(x, DESCR) == read(table, FLOAT32) else 8
    x, out = read(x, DATA), read(out, DATA)
    if x < out + n * read(table, _CLASSES) * size and out < x + n * read(table, _FEATURES) * size:
        return NO
    is_large = n > read(table, _ALONE_ROWS)
    threads, python = begin_work(table, is_large)
    if threads == 0:
        return ERROR
    call(read(table, _FUNCTION), read(table, _TABLE), read(table, _LENGTH), x, n, np.intp(wanted), out, threads)
    end_work(is_large, python)
    return YES


def _predict(table, args, count):
    """What Python calls."""
    table = read(table, DATA)
    return answer(table, _work_of_prediction(table, args, count))
