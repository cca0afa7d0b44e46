import hashlib
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from fastnn.dataset.digits import load_digits


def test_shapes_and_ranges():
    (x_train, t_train), (x_test, t_test) = load_digits()
    assert (x_train.shape, t_train.shape, x_test.shape, t_test.shape) == ((1437, 64), (1437,), (360, 64), (360,))
    assert x_train.dtype == np.float32
    assert t_train.dtype == np.uint8
    assert (x_train.min(), x_train.max()) == (0, 1)
    assert_array_equal(np.bincount(t_test), [36] * 10)
    assert_array_equal(np.bincount(t_train), np.array([178, 182, 177, 183, 181, 182, 181, 179, 174, 180]) - 36)


@pytest.mark.parametrize("flatten", [True, False])
@pytest.mark.parametrize("normalize", [True, False])
@pytest.mark.parametrize("one_hot_label", [True, False])
def test_switches_change_the_form_only(normalize, flatten, one_hot_label):
    (want_x, want_t), _ = load_digits(normalize=False)
    (x, t), (x_test, _) = load_digits(normalize=normalize, flatten=flatten, one_hot_label=one_hot_label)
    assert x.shape[1:] == x_test.shape[1:] == ((64,) if flatten else (1, 8, 8))
    assert x.dtype == (np.float32 if normalize else np.uint8)
    assert_array_equal(x.reshape(-1, 64) * (16 if normalize else 1), want_x)
    if one_hot_label:
        assert (t.shape, t.dtype) == ((1437, 10), np.float32)
        assert_array_equal(t.sum(axis=1), 1)
        t = t.argmax(axis=1)
    assert_array_equal(t, want_t)


def test_split_never_changes():
    """Results stay comparable between versions of fastnn and of NumPy."""
    (x_train, t_train), (x_test, t_test) = load_digits(normalize=False)
    content = b"".join(a.tobytes() for a in (x_train, t_train, x_test, t_test))
    assert hashlib.sha256(content).hexdigest() == "2eadec29c9d440ca192f84d23416dd77d7df1469287ab6a689a9c2f4f869a254"
    assert_array_equal(t_test[:8], [3, 3, 8, 8, 7, 2, 2, 4])


def test_no_image_on_both_sides():
    (x_train, _), (x_test, _) = load_digits(normalize=False)
    assert not {row.tobytes() for row in x_train} & {row.tobytes() for row in x_test}


def test_calls_do_not_share_memory():
    (x, _), _ = load_digits()
    x[...] = 7
    (again, _), _ = load_digits()
    assert again.max() == 1


def test_import_is_light():
    code = "import sys, fastnn.dataset; print({'numba', 'matplotlib', 'urllib.request', 'tqdm'} & set(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=Path(__file__).parents[2], check=True, capture_output=True, text=True
    )
    assert done.stdout == "set()\n"
