import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from fastnn.models import Parameters
from fastnn.optimizer import SGD


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("kind", [list, "dict", Parameters])
def test_moves_lists_and_mappings_in_place(kind, dtype, rng):
    arrays = {name: rng.standard_normal(shape).astype(dtype) for name, shape in [("W", (3, 4)), ("b", (4,))]}
    steps = {name: rng.standard_normal(a.shape).astype(dtype) for name, a in arrays.items()}
    want = {name: a - 0.5 * steps[name] for name, a in arrays.items()}
    make = {list: lambda m: list(m.values()), "dict": dict, Parameters: Parameters}[kind]
    before = {name: g.copy() for name, g in steps.items()}
    SGD(lr=0.5).update(make(arrays), make(steps))
    for name, a in arrays.items():
        assert_allclose(a, want[name], rtol=1e-6)
        assert_array_equal(steps[name], before[name])


@pytest.mark.parametrize("shape", [(400, 300), (300,)])
@pytest.mark.parametrize("view", [np.asarray, np.transpose, lambda a: a[::2], lambda a: a[::-1]])
def test_any_layout_and_size(shape, view, rng):
    base, step = rng.standard_normal(shape), rng.standard_normal(shape)
    want = base.copy()
    view(want)[...] -= 0.1 * view(step)
    SGD(lr=0.1).update([view(base)], [view(step)])
    assert_allclose(base, want)


def test_gradient_of_another_dtype():
    p = np.ones(3, "float32")
    SGD(lr=1.0).update([p], [np.full(3, 0.25)])
    assert_array_equal(p, [0.75] * 3)


@pytest.mark.parametrize(
    ("params", "grads", "error", "message"),
    [
        ([np.ones(2)], [], ValueError, "SGD: params and grads must be of one length, got 1 and 0"),
        ([np.ones(2)], [np.ones(3)], ValueError, "SGD: grads[0] must have the shape (2,) of params[0], got (3,)"),
        ({"W": np.ones(2)}, [np.ones(2)], TypeError, "SGD: params and grads must both be lists or both be mappings"),
        ({"W": np.ones(2)}, {"b": np.ones(2)}, ValueError, "SGD: grads has no 'W'"),
    ],
)
def test_errors(params, grads, error, message):
    with pytest.raises(error) as caught:
        SGD().update(params, grads)
    assert str(caught.value) == message
