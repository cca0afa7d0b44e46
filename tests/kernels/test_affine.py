import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

from fastnn.kernels import cpu, ref
from tests.kernels.test_matmul import LAYOUTS, SHAPES, assert_product
from tests.tolerances import TOL


def check(k, N, D, F, layout, dtype, seed=0):
    rng = np.random.default_rng(seed)
    x, dout = rng.standard_normal((N, D)).astype(dtype), rng.standard_normal((N, F)).astype(dtype)
    W, b = LAYOUTS[layout](rng.standard_normal((D, F)).astype(dtype)), rng.standard_normal(F).astype(dtype)
    out, dx, dW, db = (np.full(shape, np.nan, dtype) for shape in ((N, F), (N, D), (D, F), F))
    k.affine_forward(x, W, b, out)
    k.affine_backward_input(dout, W, dx)
    k.affine_backward_params(x, dout, dW, db)
    assert_product(out, x, W, b)
    assert_product(dx, dout, W.T)
    assert_product(dW, x.T, dout)
    assert_product(db[None], np.ones((1, N)), dout)
    y, want, activated, want_activated = np.abs(x) % 1 * (x > -0.5), np.empty_like(dx), *np.empty((2, N, F), dtype)
    for name in ("relu", "sigmoid"):
        getattr(k, f"affine_{name}_forward")(x, W, b, activated)
        getattr(ref, f"{name}_forward")(out, want_activated)
        assert_allclose(activated, want_activated, **TOL[dtype])
        getattr(k, f"{name}_affine_backward_input")(dout, W, y, dx)
        getattr(ref, f"{name}_affine_backward_input")(dout, W, y, want)
        assert_allclose(dx, want, rtol=0, atol=F * 4 * TOL[dtype]["rtol"])


@pytest.mark.parametrize("dtype", TOL)
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_matches_reference(k, shape, layout, dtype):
    check(k, *shape, layout, dtype)


@pytest.mark.parametrize("dtype", TOL)
@settings(deadline=None, max_examples=60)
@given(
    N=st.integers(1, 70),
    D=st.integers(1, 70),
    F=st.integers(1, 70),
    layout=st.sampled_from(sorted(LAYOUTS)),
    seed=st.integers(0, 2**32 - 1),
)
def test_any_shape(k, dtype, N, D, F, layout, seed):
    check(k, N, D, F, layout, dtype, seed)


def test_reference_agrees_with_the_definition(rng):
    x, W, b, dout = rng.standard_normal((3, 2)), rng.standard_normal((2, 4)), rng.standard_normal(4), np.ones((3, 4))
    out, dx, dW, db = np.empty((3, 4)), np.empty((3, 2)), np.empty((2, 4)), np.empty(4)
    ref.affine_forward(x, W, b, out)
    ref.affine_backward_input(dout, W, dx)
    ref.affine_backward_params(x, dout, dW, db)
    for n in range(3):
        for f in range(4):
            assert_allclose(out[n, f], sum(x[n, d] * W[d, f] for d in range(2)) + b[f])
        assert_allclose(dx[n], W.sum(axis=1))
    assert_allclose(dW, np.outer(x.sum(axis=0), np.ones(4)))
    assert_array_equal(db, np.full(4, 3.0))


def read_only(a):
    a.flags.writeable = False
    return a


SOME = {
    "affine_forward": [(4, 3), (3, 2), (2,), (4, 2)],
    "relu_affine_backward_input": [(4, 2), (3, 2), (4, 3), (4, 3)],
    "affine_backward_params": [(4, 3), (4, 2), (3, 2), (2,)],
}


@pytest.mark.parametrize("dtype", TOL)
@pytest.mark.parametrize(("m", "depth", "n"), [(5, 40, 30), (128, 784, 100)])  # whole, and by halves of the features
def test_sigmoid_is_that_of_the_layer_to_the_bit(m, depth, n, dtype, rng):
    x, W, b = (9 * rng.standard_normal(shape).astype(dtype) for shape in ((m, depth), (depth, n), n))
    x[:, ::2] /= 64
    scores, y, want = np.empty((3, m, n), dtype)
    cpu.affine_forward(x, W, b, scores)
    cpu.sigmoid_forward(scores, want)
    cpu.affine_sigmoid_forward(x, W, b, y)
    assert_array_equal(y, want)


class TestAtOnce:
    """What layers call: past Numba's dispatcher."""

    @pytest.fixture(params=SOME)
    def name(self, request):
        for dtype in TOL:  # compile
            getattr(cpu, request.param)(*(np.ones(shape, dtype) for shape in SOME[request.param]))
        return request.param

    @pytest.mark.parametrize("dtype", TOL)
    @pytest.mark.parametrize("times", [1, 60])  # on one thread, on several
    def test_does_as_the_reference(self, name, dtype, times, rng):
        shapes = [tuple(times * n for n in shape) for shape in SOME[name]]
        arrays = [rng.standard_normal(shape).astype(dtype) for shape in shapes]
        wanted = [a.astype("float64") for a in arrays]
        getattr(cpu, name)(*(a.copy() for a in arrays))  # compile what so large a product needs
        assert getattr(cpu, name).at_once(*arrays) is True
        getattr(ref, name)(*wanted)
        for got, want in zip(arrays, wanted, strict=True):
            assert_allclose(got, want, rtol=0, atol=1e3 * TOL[dtype]["rtol"])

    def test_takes_weights_by_columns(self, rng):
        x, W, b, out = rng.standard_normal((4, 3)), np.asfortranarray(rng.standard_normal((3, 2))), *np.ones((2, 4, 2))
        cpu.affine_forward(x, W, b[0], out)
        assert cpu.affine_forward.at_once(x, W, b[0], out) is True
        assert_allclose(out, x @ W + 1)

    @pytest.mark.parametrize("position", range(4))
    @pytest.mark.parametrize(
        "change",
        [
            lambda a: None,
            lambda a: a.tolist(),
            lambda a: a.astype("float64"),
            lambda a: a.astype("int32"),
            lambda a: a[None],
            lambda a: a[:-1],
            lambda a: a[..., :-1],
            lambda a: a[:0],
            lambda a: np.repeat(a, 2, axis=-1)[..., ::2],
            lambda a: np.ma.array(a),
        ],
    )
    def test_leaves_all_else_alone(self, name, position, change):
        arrays = [np.ones(shape, "float32") for shape in SOME[name]]
        given = [*arrays[:position], change(arrays[position]), *arrays[position + 1 :]]
        assert getattr(cpu, name).at_once(*given) is False
        assert getattr(cpu, name).at_once(*arrays[:-1]) is False

    def test_writes_nothing_that_is_not_to_be_written(self, name):
        arrays = [np.ones(shape, "float32") for shape in SOME[name]]
        assert getattr(cpu, name).at_once(*arrays[:-1], read_only(arrays[-1])) is False
        assert getattr(cpu, name).at_once(read_only(arrays[0]), *arrays[1:]) is False
