"""A training step, or a prediction, of a small network called past Numba's dispatcher: see _objects.py."""

import numpy as np

from ._jit import jit
from ._mlp_plan import IN, OUT, PREDICT_PASS
from ._objects import (
    CONTIGUOUS_ALIGNED,
    DATA,
    FALSE,
    INTP,
    OWN,
    SHAPE,
    TRUE,
    VALUE,
    WRITEABLE,
    boolean,
    is_plain,
    ndim,
    new_float,
    python_function,
    read,
    table_of,
)
from ._tile import call, load

_DTYPE, _FUNCTION, _TABLE, _LENGTH, _SQUARES, _FEATURES, _CLASSES, _MOST_ROWS, _LOSS, _DONE = range(OWN, OWN + 80, 8)


def step_at_once(step, table, squares, dtype, most_rows):
    """at_once(x, t, numbers, max_norm) does one step, and returns its loss; or False, and nothing has happened.

    Arguments: as of `mlp_train`, x of at most so many rows; t either kind of labels, which may be wrong. step: address
    of the compiled function, see mlp.py.
    """
    return python_function(_step, _known(table, squares, dtype, step, most_rows))


def prediction_at_once(table, dtype, most_rows):
    """at_once(x, out, probabilities) does as `mlp_predict`, and returns True; or False."""
    return python_function(_predict, _known(table, table, dtype, table[0, PREDICT_PASS], most_rows))


def _known(table, squares, dtype, function, most_rows):
    return table_of(
        id(dtype), function, table.ctypes.data, len(table), squares.ctypes.data, table[1, IN], table[-1, OUT],
        most_rows, 0, 0,
    )  # fmt: skip


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
def _step_is_done(table, args, count):
    if count != 4:
        return False
    x, t, numbers, max_norm = read(args, 0), read(args, 8), read(args, 16), read(args, 24)
    n, classes = _rows_of(table, x), read(table, _CLASSES)
    indices = n if is_plain(table, t, read(table, INTP)) and ndim(t) == 1 else 0
    if indices == 0 and not (_is_matrix(table, t, CONTIGUOUS_ALIGNED, classes) and n * classes > 1):
        return False
    if n == 0 or read(read(t, SHAPE), 0) != n:
        return False
    call(
        read(table, _FUNCTION), read(table, _TABLE), read(table, _LENGTH), read(table, _SQUARES), read(x, DATA), n,
        read(t, DATA), read(t, DATA), indices, read(numbers, DATA), read(read(numbers, SHAPE), 8),
        load(max_norm, VALUE // 8, 0.0), table + _LOSS,
    )  # fmt: skip
    return load(table + _DONE, 0, 0.0) == 1.0


def _step(table, args, count):
    """What Python calls."""
    table = read(table, DATA)
    return new_float(load(table + _LOSS, 0, 0.0)) if _step_is_done(table, args, count) else boolean(table, False)


def _predict(table, args, count):
    """What Python calls."""
    table, done = read(table, DATA), False
    if count == 3:
        x, out, probabilities = read(args, 0), read(args, 8), read(args, 16)
        n = _rows_of(table, x)
        if (
            n > 0
            and (probabilities == read(table, TRUE) or probabilities == read(table, FALSE))
            and _is_matrix(table, out, CONTIGUOUS_ALIGNED | WRITEABLE, read(table, _CLASSES))
            and read(read(out, SHAPE), 0) == n
        ):
            call(
                read(table, _FUNCTION), read(table, _TABLE), read(table, _LENGTH), read(x, DATA), n,
                np.intp(probabilities == read(table, TRUE)), 0, 1, read(out, DATA),
            )  # fmt: skip
            done = True
    return boolean(table, done)
