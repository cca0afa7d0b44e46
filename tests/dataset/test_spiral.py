import numpy as np
from numpy.testing import assert_array_equal

from fastnn.dataset import spiral

WANT = [
    [-0.0, 0.0],
    [-0.00097698643152699, 0.009952160444476976],
    [-0.13912045724684738, 0.48025565938927584],
    [-0.5974310265949212, 0.7894150799558737],
]


def book_recipe(seed):
    """The listing of the book, on a generator of the kind that np.random.seed seeds."""
    rng = np.random.RandomState(seed)
    x, t = np.zeros((300, 2)), np.zeros((300, 3), dtype=int)
    for j in range(3):
        for i in range(100):
            rate = i / 100
            radius = 1.0 * rate
            theta = j * 4.0 + 4.0 * rate + rng.randn() * 0.2
            x[100 * j + i] = np.array([radius * np.sin(theta), radius * np.cos(theta)]).flatten()
            t[100 * j + i, j] = 1
    return x, t


def test_is_the_book_number_for_number():
    for seed in (1984, 0):
        x, t = spiral.load_data(seed)
        want_x, want_t = book_recipe(seed)
        assert_array_equal(x, want_x)
        assert_array_equal(t, want_t)
        assert (x.dtype, t.dtype) == (np.float64, np.dtype(int))


def test_values_written_down():
    """Computed once from np.random.seed(1984) and the recipe; a change in NumPy's generator would show here."""
    x, _ = spiral.load_data()
    np.testing.assert_allclose(x[[0, 1, 150, 299]], WANT, rtol=1e-12)


def test_leaves_the_global_generator_alone():
    np.random.seed(5)
    before = np.random.get_state()
    spiral.load_data()
    after = np.random.get_state()
    assert_array_equal(before[1], after[1])
    assert before[2:] == after[2:]
