"""Functions of each element, against the float64 reference."""

import sys
import types

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.testing import assert_allclose, assert_array_equal

from fastnn import kernels
from fastnn.kernels import _threads, ref
from fastnn.kernels.cpu import _elementwise, _objects, relu
from tests.tolerances import TOL

SPECIAL = [
    0.0,
    -0.0,
    1e-45,
    -1e-45,
    1e-310,
    88.0,
    -88.0,
    104.0,
    -104.0,
    745.0,
    -745.0,
    1e4,
    -1e4,
    np.inf,
    -np.inf,
    np.nan,
]
GUARD = -12345.0
PARALLEL = 60_100  # beyond the sizes above which kernels run in parallel

# name -> roles of the inputs (x: any; d: a gradient; p: in [0, 1]; a: a Python float), number of outputs
OPS = {
    "relu_forward": ("x", 1),
    "relu_backward": ("dx", 1),
    "sigmoid_forward": ("x", 1),
    "sigmoid_backward": ("dp", 1),
    "tanh_forward": ("x", 1),
    "tanh_backward": ("dp", 1),
    "leaky_relu_forward": ("xa", 1),
    "leaky_relu_backward": ("dxa", 1),
    "softplus_forward": ("x", 1),
    "softplus_backward": ("dp", 1),
    "gelu_forward": ("x", 1),
    "gelu_backward": ("dx", 1),
    "gelu_tanh_forward": ("x", 1),
    "gelu_tanh_backward": ("dx", 1),
    "silu_forward": ("x", 1),
    "silu_backward": ("dx", 1),
}
FORWARD = [name for name in OPS if name.endswith("forward")]


def draw(role, shape, dtype, rng):
    if role == "a":
        return 0.37
    values = rng.standard_normal(shape) * (1 if role == "d" else 5)
    return np.asarray(1 / (1 + np.exp(-values)) if role == "p" else values, dtype)


def run(k, name, inputs, outputs):
    shape, dtype = inputs[0].shape, np.result_type(inputs[0], np.float32)
    outs = [np.full(shape, np.nan, dtype) for _ in range(outputs)]
    getattr(k, name)(*inputs, *outs)
    return outs


def in_pieces(k, name, inputs):
    starts = range(0, inputs[0].size, 40_000)
    pieces = [[a[i : i + 40_000] if isinstance(a, np.ndarray) else a for a in inputs] for i in starts]
    return np.concatenate([run(k, name, piece, 1)[0] for piece in pieces])


def in_float64(inputs):
    return [a.astype("float64") if isinstance(a, np.ndarray) else a for a in inputs]


@pytest.mark.parametrize("dtype", TOL)
@pytest.mark.parametrize("name", OPS)
def test_matches_reference(k, name, dtype, rng):
    roles, outputs = OPS[name]
    for shape in [(), (0,), (1,), (3, 7), (2, 3, 5), (PARALLEL,), (301, 211)]:
        inputs = [draw(role, shape, dtype, rng) for role in roles]
        before = [np.copy(a) for a in inputs]
        want = run(ref, name, in_float64(inputs), outputs)
        for got, expected in zip(run(k, name, inputs, outputs), want, strict=True):
            assert got.dtype == dtype
            assert_allclose(got, expected, **TOL[dtype])
        for a, b in zip(inputs, before, strict=True):
            assert_array_equal(a, b)


@pytest.mark.parametrize("dtype", TOL)
@pytest.mark.parametrize("name", OPS)
def test_in_place(k, name, dtype, rng):
    """The output may be exactly one of the inputs."""
    roles, _ = OPS[name]
    for n in (1, 7, 100, 1003, PARALLEL):
        inputs = [draw(role, n, dtype, rng) for role in roles]
        (want,) = run(k, name, inputs, 1)
        for i, role in enumerate(roles):
            if role != "a":
                given = [np.copy(a) if isinstance(a, np.ndarray) else a for a in inputs]
                getattr(k, name)(*given, given[i])
                assert_array_equal(given[i], want)


@pytest.mark.parametrize("name", FORWARD)
def test_float16_is_read_and_computed_in_float32(k, name, rng):
    roles, _ = OPS[name]
    every = np.arange(2**16, dtype=np.uint16).view("float16")
    for x in (every, every.reshape(64, -1)[:20].copy(), rng.standard_normal(5).astype("float16")):
        inputs = [draw(role, x.shape, "float16", rng) for role in roles]
        inputs[0] = x
        with np.errstate(all="ignore"):
            (want,) = run(k, name, [x.astype("float32"), *inputs[1:]], 1)
        (got,) = run(k, name, inputs, 1)
        assert got.dtype == "float32"
        assert_array_equal(got, want)


def test_float16_without_an_instruction_for_it():
    every = np.arange(2**16, dtype=np.uint16)
    got = np.array([_elementwise._half_bits(bits) for bits in every])
    assert_array_equal(got, every.view("float16").astype("float32"))
    assert_array_equal(np.signbit(got), np.signbit(every.view("float16")))


@pytest.mark.parametrize("name", OPS)
def test_same_bits_on_any_number_of_threads(k, name, rng):
    roles, _ = OPS[name]
    inputs = [draw(role, PARALLEL, "float32", rng) for role in roles]
    results = []
    for n in {1, kernels.get_num_threads()}:
        with kernels.threads(n):
            results += run(k, name, inputs, 1)
    parts = [a[: PARALLEL // 2] if isinstance(a, np.ndarray) else a for a in inputs]
    for got in results:
        assert_array_equal(got, results[0])
        assert_array_equal(got[: PARALLEL // 2], run(k, name, parts, 1)[0])


@pytest.mark.parametrize("name", ["relu_forward", "sigmoid_backward", "leaky_relu_forward", "leaky_relu_backward"])
def test_large_arrays(k, name, rng):
    """The same as in pieces, on any number of threads."""
    roles, _ = OPS[name]
    inputs = [draw(role, 520_003, "float32", rng) for role in roles]
    want = in_pieces(k, name, inputs)
    for n in {1, kernels.get_num_threads()}:
        with kernels.threads(n):
            assert_array_equal(run(k, name, inputs, 1)[0], want)


@pytest.mark.parametrize("size", [4_300_003, 8_500_003], ids=["fetched ahead", "written past the caches"])
@pytest.mark.parametrize(("name", "dtype"), [
    ("relu_forward", "float32"),
    ("relu_forward", "float16"),
    ("sigmoid_backward", "float32"),
    ("leaky_relu_forward", "float64"),
    ("leaky_relu_backward", "float32"),
])  # fmt: skip
def test_arrays_that_no_cache_holds(name, dtype, size, rng):
    """Computed by blocks: the same as in pieces, on any number of threads, in place, and nothing else is written."""
    roles, _ = OPS[name]
    inputs = [draw(role, size, dtype, rng) for role in roles]
    want = in_pieces(kernels.cpu, name, inputs)
    memory = np.empty(size + 40, want.dtype)
    out = memory[3:][:size]
    for n in {1, kernels.get_num_threads()}:
        memory[:] = GUARD
        with kernels.threads(n):
            getattr(kernels.cpu, name)(*inputs, out)
        assert_array_equal(out, want)
        assert np.all(memory[:3] == GUARD) and np.all(memory[size + 3 :] == GUARD)
    if dtype != "float16":
        getattr(kernels.cpu, name)(*inputs, inputs[0])
        assert_array_equal(inputs[0], want)


@pytest.mark.parametrize("dtype", TOL)
@pytest.mark.parametrize("name", FORWARD)
def test_special_values(k, name, dtype):
    x = np.array(SPECIAL * 5, dtype)
    scalars = [0.37] * (len(OPS[name][0]) - 1)
    with np.errstate(all="raise", under="ignore"):
        (got,) = run(k, name, [x, *scalars], 1)
    with np.errstate(all="ignore"):
        (want,) = run(ref, name, [x, *scalars], 1)
    assert_allclose(got, want, **TOL[dtype])


@pytest.mark.parametrize("dtype", TOL)
@pytest.mark.parametrize("name", ["relu_backward", "gelu_backward", "gelu_tanh_backward", "silu_backward"])
def test_gradients_of_large_values(k, name, dtype):
    """From those whose squares overflow to the largest of all."""
    x = np.array([1e4, 1e13, 2e19, np.sqrt(np.finfo(dtype).max) * 2, np.finfo(dtype).max], dtype)
    for room in (k, ref):
        with np.errstate(over="ignore", under="ignore"):
            (got,) = run(room, name, [np.full(10, 3, dtype), np.concatenate([x, -x])], 1)
        assert_array_equal(got, [3] * 5 + [0] * 5)


# For inf, -inf, NaN and -0: what PyTorch gives, but that its relu(-0) is -0, and its exact gelu(inf) NaN.
LIMITS = {
    "relu": (np.inf, 0, np.nan, 0.0),
    "sigmoid": (1, 0, np.nan, 0.5),
    "tanh": (1, -1, np.nan, -0.0),
    "leaky_relu": (np.inf, -np.inf, np.nan, -0.0),
    "softplus": (np.inf, 0, np.nan, np.log(2)),
    "gelu": (np.inf, np.nan, np.nan, -0.0),
    "gelu_tanh": (np.inf, np.nan, np.nan, -0.0),
    "silu": (np.inf, np.nan, np.nan, -0.0),
}


@pytest.mark.parametrize("dtype", TOL)
@pytest.mark.parametrize("name", LIMITS)
def test_infinity_nan_and_minus_zero(k, name, dtype):
    x = np.array([np.inf, -np.inf, np.nan, -0.0] * 9, dtype)
    (got,) = run(k, f"{name}_forward", [x, 0.01] if name == "leaky_relu" else [x], 1)
    assert_array_equal(got, np.array(LIMITS[name] * 9, dtype))
    assert_array_equal(np.signbit(got[3::4]), np.signbit(LIMITS[name][3]))


class TestAtOnce:
    """The way past Numba's dispatcher: it does what is small and as it should be, and leaves all else alone."""

    @pytest.fixture
    def at_once(self):
        kernel = kernels.get("cpu").relu_forward
        for dtype in ("float32", "float64"):  # compile
            kernel(np.ones(3, dtype), np.ones(3, dtype))
        return kernel.at_once

    @pytest.mark.parametrize("dtype", TOL)
    @pytest.mark.parametrize("shape", [(), (0,), (7,), (2, 3, 4), (PARALLEL,)], ids=str)
    def test_does_what_it_can(self, at_once, shape, dtype):
        x, out = np.full(shape, -2, dtype), np.ones(shape, dtype)
        x.flags.writeable = False
        assert at_once(x, out) is True
        assert_array_equal(out, np.zeros(shape))

    @pytest.mark.parametrize(
        ("x", "out"),
        [
            (np.ones(5), np.ones(4)),
            (np.ones((2, 3)), np.ones((3, 2))),
            (np.ones((2, 3)), np.ones(6)),
            (np.ones(5), np.ones(5, "float32")),
            (np.ones(5), np.ones(5, ">f8")),
            (np.ones(5, "int32"), np.ones(5, "int32")),
            (np.ones(10)[::2], np.ones(5)),
            (np.ones(5), np.ones(10)[::2]),
            (np.ones(5), np.broadcast_to(np.float64(1), 5)),
            (np.ones(5), np.ones(41, "uint8")[1:].view("float64")),
            (np.ones((3, 5)), np.ones((5, 3)).T),
            (np.ones(5), np.ma.ones(5)),
            (np.ones(5), 1.0),
            (1.0, np.ones(5)),
            (None, "x"),
        ],
    )
    def test_leaves_all_else_alone(self, at_once, x, out):
        before = np.copy(out)
        assert at_once(x, out) is False
        assert_array_equal(out, before)

    def test_leaves_overlapping_arrays_alone(self, at_once):
        a = np.arange(10.0)
        assert at_once(a[1:], a[:-1]) is False
        assert at_once(a[:-1], a[1:]) is False
        assert at_once(a[5:], a[:5]) is True

    @pytest.mark.parametrize("threads", {1, kernels.get_num_threads()})
    def test_writes_all_of_its_output_and_nothing_else(self, at_once, threads):
        """Wherever in a line of the cache arrays begin."""
        for n in (PARALLEL - 1, PARALLEL + 63):
            for skipped in range(18):
                x, out = np.full(n + 40, 2.0), np.zeros(n + 40)
                with kernels.threads(threads):
                    assert at_once(x[skipped : skipped + n], out[skipped : skipped + n]) is True
                assert_array_equal(out.nonzero()[0], np.arange(skipped, skipped + n))

    def test_errors_of_python_come_out(self, at_once, monkeypatch):
        monkeypatch.setattr(_threads, "limit", None)
        with pytest.raises(AttributeError, match="threads"):
            at_once(np.ones(PARALLEL), np.ones(PARALLEL))

    def test_wrong_calls(self, at_once):
        assert at_once() is False
        assert at_once(np.ones(3)) is False
        assert at_once(*[np.ones(3)] * 3) is False
        with pytest.raises(TypeError, match="keyword"):
            at_once(np.ones(3), out=np.ones(3))

    def test_counts_no_reference_too_few(self, at_once):
        x, large, counts = np.ones(3), np.ones(PARALLEL), []
        for _ in range(2):
            counts.append([sys.getrefcount(o) for o in (x, large, True, False)])
            for _ in range(1000):
                at_once(x, x)
                at_once(x, None)
            for _ in range(200):
                at_once(large, large)
        assert np.all(abs(np.diff(counts, axis=0)) < 100)

    def test_unknown_objects_go_by_way_of_numba(self, monkeypatch):
        """Where CPython or NumPy lays out its objects in another way."""
        monkeypatch.setattr(_objects, "_layout_is_known", lambda: False)
        own = types.FunctionType(relu.relu_forward.__wrapped__.__code__, vars(relu), "relu_forward")
        kernel = _elementwise.elementwise(parallel_above=100)(own)
        for n in (7, 1000):
            x, out = np.linspace(-1, 1, n), np.full(n, np.nan)
            kernel(x, out)
            assert_array_equal(out, np.maximum(x, 0))
        assert kernel.at_once(x, out) is False


@pytest.mark.parametrize("dtype", TOL)
def test_relu_keeps_infinity_and_nan_and_passes_the_gradient_of_nan(k, dtype):
    x = np.array([np.nan, np.inf, -np.inf, -0.0], dtype)
    y, dx = np.empty_like(x), np.empty_like(x)
    k.relu_forward(x, y)
    assert_array_equal(y, np.array([np.nan, np.inf, 0, 0]))
    k.relu_backward(np.full_like(x, 7), y, dx)
    assert_array_equal(dx, [7, 7, 0, 0])


@pytest.mark.parametrize("dtype", TOL)
def test_sigmoid_is_exact_in_its_tails(k, dtype):
    x = np.array([1e4, -1e4, np.inf, -np.inf], dtype)
    y = np.empty_like(x)
    k.sigmoid_forward(x, y)
    assert_array_equal(y, [1, 0, 1, 0])


@pytest.mark.parametrize("dtype", TOL)
@settings(deadline=None, max_examples=50)
@given(data=st.data())
def test_sigmoid_anywhere(dtype, data):
    from fastnn.kernels import cpu

    width = np.dtype(dtype).itemsize * 8
    x = data.draw(hnp.arrays(dtype, st.integers(1, 70), elements=st.floats(width=width)))
    got, want = np.empty_like(x), np.empty(x.shape)
    cpu.sigmoid_forward(x, got)
    ref.sigmoid_forward(x.astype("float64"), want)
    tiny = float(np.finfo(dtype).tiny)
    assert_allclose(got, want, rtol=4 * np.finfo(dtype).eps, atol=tiny)
