"""Whole training steps and predictions of one call, against the reference in float64."""

import sys
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

from fastnn import kernels
from fastnn.kernels import cpu, ref
from tests.tolerances import TOL

NO_ORDER = np.empty(0, np.intp)
SGD = np.array([[0.0, 1.0, 0.1]] * 3)  # the optimizer's numbers for three steps


def stages(sizes, kinds, dtype, seed=0, transposed=False):
    """Random stages; kinds: for each, (product, activation)."""
    rng = np.random.default_rng(seed)
    result, sizes = [], list(sizes)
    D = sizes.pop(0)
    for product, activation in kinds:
        arrays = (None,) * 4
        if product:
            F = sizes.pop(0)
            W = (rng.standard_normal((D, F)) / np.sqrt(D)).astype(dtype)
            W = np.asfortranarray(W) if transposed else W
            b = rng.standard_normal(F).astype(dtype) if product == "affine" else None
            db = None if b is None else np.full(F, np.nan, dtype)
            arrays, D = (W, b, np.full((D, F), np.nan, dtype), db), F
        result.append((*arrays, activation))
    return result


def copy(plan, dtype):
    return [tuple(a.astype(dtype, order="C") if isinstance(a, np.ndarray) else a for a in stage) for stage in plan]


def mlp(*sizes, activation="relu"):
    kinds = [("affine", activation)] * (len(sizes) - 2) + [("affine", None)]
    return sizes, kinds


def labels(n, classes, kind, dtype, seed=1):
    rng = np.random.default_rng(seed)
    if kind == "indices":
        return rng.integers(classes, size=n), np.empty((0, 0), dtype)
    if kind == "targets":
        return np.empty(0, np.intp), rng.standard_normal((n, classes)).astype(dtype)
    t = rng.random((n, classes))
    t[:, ::2] = 0
    return np.empty(0, np.intp), (t / np.maximum(t.sum(axis=1, keepdims=True), 0.1)).astype(dtype)


def train(k, plan_stages, x, t, t_rows, order, batch_size, lr=0.1, max_norm=0.0, loss=()):
    losses = np.full(len(order) // batch_size if len(order) else 1, np.nan)
    plan = k.mlp_plan(plan_stages, "sgd", None, *loss)
    workspace = k.mlp_workspace(plan, batch_size + 3, x.dtype)
    numbers = np.array([[0.0, 1.0, lr]], x.dtype)  # one row for all batches
    assert k.mlp_train(plan, workspace, x, t, t_rows, order, batch_size, numbers, max_norm, losses) == len(losses)
    return losses


def check_training(k, sizes, kinds, n, dtype, label_kind="indices", batches=1, max_norm=0.0, transposed=False, seed=0):
    rng = np.random.default_rng(seed)
    own = stages(sizes, kinds, dtype, seed, transposed)
    exact = copy(own, "float64")
    x = rng.standard_normal((n * batches, sizes[0])).astype(dtype)
    t, t_rows = labels(n * batches, sizes[-1], label_kind, dtype)
    order = NO_ORDER if batches == 1 else rng.permutation(n * batches)
    before = x.copy(), t.copy(), t_rows.copy(), order.copy()
    loss = ("mean_squared_error", 1.5) if label_kind == "targets" else ()
    got = train(k, own, x, t, t_rows, order, n, max_norm=max_norm, loss=loss)
    want = train(ref, exact, x.astype("float64"), t, t_rows.astype("float64"), order, n, max_norm=max_norm, loss=loss)
    loose = 50 * TOL[dtype]["atol"]
    assert_allclose(got, want, rtol=loose, atol=loose)
    for stage, exact_stage in zip(own, exact, strict=True):
        for name, a, b in zip(("W", "b", "dW", "db"), stage, exact_stage, strict=False):
            if a is not None:
                assert_allclose(a, b, rtol=loose, atol=loose * max(1, np.abs(b).max()), err_msg=name)
    for a, b in zip((x, t, t_rows, order), before, strict=True):
        assert_array_equal(a, b)


@pytest.mark.parametrize("dtype", TOL)
@pytest.mark.parametrize(
    ("network", "n"),
    [
        (mlp(2, 10, 3, activation="sigmoid"), 30),
        (mlp(784, 50, 10), 100),
        (mlp(64, 100, 100, 10), 128),
        (mlp(40, 512, 10), 77),  # padded rows
        (mlp(7, 3, activation=None), 1),
        (mlp(30, 1), 9),
        (mlp(20, 15, 1030), 5),
        (mlp(510, 530, 520, 10), 30),  # columns shared out
    ],
    ids=str,
)
@pytest.mark.parametrize("label_kind", ["indices", "rows"])
def test_step(k, network, n, dtype, label_kind):
    check_training(k, *network, n, dtype, label_kind)


@pytest.mark.parametrize("dtype", TOL)
@pytest.mark.parametrize("max_norm", [0.0, 1e-3, 0.5, 1e3])
@pytest.mark.parametrize("batches", [1, 4])
def test_clipping_and_epochs(k, dtype, max_norm, batches):
    check_training(k, *mlp(50, 40, 30, 5), 64, dtype, batches=batches, max_norm=max_norm)


kinds = st.lists(
    st.tuples(st.sampled_from([None, "affine", "matmul"]), st.sampled_from([None, "relu", "sigmoid"])).filter(any),
    min_size=1,
    max_size=5,
).filter(lambda stages: any(product for product, _ in stages))


@settings(deadline=None, max_examples=100)
@given(
    kinds=kinds,
    sizes=st.lists(st.integers(1, 40), min_size=6, max_size=6),
    n=st.integers(1, 50),
    dtype=st.sampled_from(list(TOL)),
    label_kind=st.sampled_from(["indices", "rows"]),
    transposed=st.booleans(),
    seed=st.integers(0, 100),
)
def test_any_network(k, kinds, sizes, n, dtype, label_kind, transposed, seed):
    sizes = sizes[: 1 + sum(bool(product) for product, _ in kinds)]
    check_training(k, sizes, kinds, n, dtype, label_kind, transposed=transposed, seed=seed)


@settings(deadline=None, max_examples=60)
@given(
    kinds=st.lists(
        st.tuples(st.sampled_from([None, "affine", "matmul"]), st.sampled_from([None, "tanh"])).filter(any),
        min_size=1,
        max_size=4,
    ).filter(lambda stages: any(product for product, _ in stages)),
    sizes=st.lists(st.integers(1, 40), min_size=5, max_size=5),
    n=st.integers(1, 50),
    batches=st.integers(1, 2),
    dtype=st.sampled_from(list(TOL)),
    label_kind=st.sampled_from(["indices", "targets"]),
)
def test_tanh_and_squared_errors(kinds, sizes, n, batches, dtype, label_kind):
    sizes = sizes[: 1 + sum(bool(product) for product, _ in kinds)]
    check_training(cpu, sizes, kinds, n, dtype, label_kind, batches)


@pytest.fixture
def all_are_small(monkeypatch):
    """Also where the CPU's vectors are short."""
    monkeypatch.setattr("fastnn.kernels.cpu._mlp_small._MOST_WORK", 1000)


@settings(deadline=None, max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    kinds=st.lists(
        st.tuples(st.sampled_from(["affine", "matmul"]), st.sampled_from([None, "relu", "sigmoid", "tanh"])),
        min_size=1,
        max_size=3,
    ),
    sizes=st.lists(st.integers(1, 11), min_size=4, max_size=4),
    n=st.integers(1, 50),
    batches=st.integers(1, 2),
    dtype=st.sampled_from(list(TOL)),
    label_kind=st.sampled_from(["indices", "rows", "targets"]),
    max_norm=st.sampled_from([0.0, 0.1, 1e3]),
    transposed=st.booleans(),
)
def test_small_networks(all_are_small, kinds, sizes, n, batches, dtype, label_kind, max_norm, transposed):
    check_training(cpu, sizes[: len(kinds) + 1], kinds, n, dtype, label_kind, batches, max_norm, transposed)


@pytest.mark.parametrize("label_kind", ["indices", "rows", "targets"])
def test_infinity_in_a_small_network(all_are_small, label_kind):
    """It reaches what it reaches in NumPy, and nothing through what fills up a vector."""
    own = stages(*mlp(2, 3, 4, activation="sigmoid"), "float64")
    own[0][0][0, 1], own[1][0][2, 0] = np.inf, -np.inf
    exact, x = copy(own, "float64"), np.random.default_rng(0).standard_normal((5, 2))
    loss = ("mean_squared_error",) if label_kind == "targets" else ()
    with np.errstate(all="ignore"):
        got, want = (
            train(room, room_stages, x, *labels(5, 4, label_kind, "float64"), NO_ORDER, 5, loss=loss)
            for room, room_stages in ((cpu, own), (ref, exact))
        )
    assert_allclose(got, want)
    for stage, exact_stage in zip(own, exact, strict=True):
        for a, b in zip(stage[:4], exact_stage[:4], strict=True):
            assert_allclose(a, b)


def test_targets_may_be_anything():
    own, x, t_rows = stages(*mlp(4, 5, 3), "float64"), np.ones((8, 4)), np.zeros((8, 3))
    t_rows[2, 1] = np.nan
    assert np.isnan(train(cpu, own, x, np.empty(0, np.intp), t_rows, NO_ORDER, 8, loss=("mean_squared_error",)))
    assert np.isnan(own[1][0]).any()
    assert not np.isnan(own[1][0]).all()  # only the column of that output


@pytest.mark.parametrize("dtype", TOL)
@pytest.mark.parametrize(
    ("network", "n"),
    [
        (mlp(100, 70, 33, 10), 50),
        (mlp(300, 100, 10), 100),
        (mlp(300, 128, 64, activation="sigmoid"), 50),
        (mlp(510, 530, 520, 10), 50),  # shares out columns
    ],
    ids=str,
)
@pytest.mark.parametrize("max_norm", [0.0, 0.1])
def test_threads_do_not_change_a_bit(network, n, dtype, max_norm, monkeypatch):
    monkeypatch.setattr("fastnn.kernels.cpu.mlp.PARALLEL_ABOVE", 0)
    results = []
    for threads in range(1, kernels.get_num_threads() + 1):
        own = stages(*network, dtype)
        x = np.random.default_rng(0).standard_normal((3 * n, network[0][0])).astype(dtype)
        t, t_rows = labels(3 * n, network[0][-1], "indices", dtype)
        with kernels.threads(threads):
            losses = train(cpu, own, x, t, t_rows, np.random.default_rng(0).permutation(3 * n), n, max_norm=max_norm)
        results.append([losses, *(a for stage in own for a in stage if isinstance(a, np.ndarray))])
    for result in results[1:]:
        for a, b in zip(result, results[0], strict=True):
            assert_array_equal(a, b)


def finished(room, own, x, t, order, batch_size, losses):
    """How many batches were done. On a GPU nothing waits to count them: there the losses of the others are NaN."""
    plan = room.mlp_plan(own)
    workspace = room.mlp_workspace(plan, batch_size, "float64")
    losses[...] = np.nan
    done = room.mlp_train(plan, workspace, x, t, np.empty((0, 0)), order, batch_size, SGD, 0.0, losses)
    assert done in (np.isfinite(losses).sum(), len(losses))
    return np.isfinite(losses).sum()


@pytest.mark.parametrize("bad", [-1, 3])
def test_a_label_out_of_range_changes_nothing(k, bad):
    own = stages(*mlp(4, 5, 3), "float64")
    before = [a.copy() for a in own[0][:2]]
    for room in (k, ref):
        assert finished(room, own, np.ones((3, 4)), np.array([0, bad, 2]), NO_ORDER, 3, np.empty(1)) == 0
        for a, b in zip(own[0][:2], before, strict=True):
            assert_array_equal(a, b)


def test_training_ends_before_the_batch_with_a_wrong_label(k):
    t = np.array([0, 1, 2, 0, 3, 1])  # the second batch of the order has the 3
    order, losses = np.array([0, 1, 4, 5, 2, 3]), np.empty(3)
    for room in (k, ref):
        assert finished(room, stages(*mlp(4, 5, 3), "float64"), np.ones((6, 4)), t, order, 2, losses) == 1
        assert list(np.isfinite(losses)) == [True, False, False]


def test_nan_comes_out(k):
    own = stages(*mlp(4, 5, 3), "float32")
    x = np.ones((8, 4), "float32")
    x[3, 2] = np.nan
    losses = train(k, own, x, np.zeros(8, np.intp), np.empty((0, 0), "float32"), NO_ORDER, 8)
    assert np.isnan(losses).all()
    assert np.isnan(own[1][2]).all()  # dW of the last layer: every class gets the sample's NaN


@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize("max_norm", [0.0, 0.1])
def test_adam_with_weight_decay(k, transposed, max_norm, monkeypatch):
    """The optimizer's state, and parameters whose columns are not adjacent; the same bits for any number of threads."""
    monkeypatch.setattr("fastnn.kernels.cpu.mlp.PARALLEL_ABOVE", 0)
    network, n = mlp(270, 70, 33, 10), 50
    x = np.random.default_rng(0).standard_normal((n, 270))
    t = labels(n, 10, "indices", "float64")
    numbers = np.array([[0.1, 0.99, lr, 0.1, 0.001, 1e-7] for lr in (0.1, 0.2)])
    results = []
    for room, threads in [(ref, 1), (k, 1), (k, kernels.get_num_threads())]:
        own = stages(*network, "float64", transposed=transposed)
        states = [tuple(np.ones(p.shape) for _ in range(2)) for stage in own for p in stage[:2]]
        plan = room.mlp_plan(own, "adam", states)
        losses, order = np.empty(2), np.arange(2 * n) % n
        with kernels.threads(threads):
            room.mlp_train(plan, room.mlp_workspace(plan, n, "float64"), x, *t, order, n, numbers, max_norm, losses)
        results.append([losses, *(a for stage in own for a in stage[:4]), *(a for state in states for a in state)])
    for want, serial, parallel in zip(*results, strict=True):
        assert_allclose(serial, want, rtol=1e-9, atol=1e-12)
        assert_array_equal(serial, parallel)


def predict(k, plan_stages, x, probabilities):
    plan = k.mlp_plan(plan_stages)
    classes = next(W for W, *_ in reversed(plan_stages) if W is not None).shape[1]
    out = np.full((len(x), classes), np.nan, x.dtype)
    k.mlp_predict(plan, k.mlp_predict_workspace(plan, x.dtype), x, probabilities, out)
    return out


@settings(deadline=None, max_examples=60)
@given(
    kinds=kinds,
    sizes=st.lists(st.integers(1, 70), min_size=6, max_size=6),
    n=st.integers(1, 300),
    dtype=st.sampled_from(list(TOL)),
    probabilities=st.booleans(),
)
def test_prediction_of_any_network(k, kinds, sizes, n, dtype, probabilities):
    own = stages(sizes[: 1 + sum(bool(product) for product, _ in kinds)], kinds, dtype)
    x = np.random.default_rng(0).standard_normal((n, sizes[0])).astype(dtype)
    got, want = (
        predict(k, own, x, probabilities),
        predict(ref, copy(own, "float64"), x.astype("float64"), probabilities),
    )
    loose = 50 * TOL[dtype]["atol"]
    assert_allclose(got, want, rtol=loose, atol=loose * max(1, np.abs(want).max()))


def test_large_batch_is_predicted_in_parallel_to_the_same_bits(monkeypatch):
    own = stages(*mlp(784, 50, 100, 10, activation="sigmoid"), "float32")
    x = np.random.default_rng(0).standard_normal((1000, 784)).astype("float32")
    x[[5, 700], 7] = np.nan, np.inf
    parallel = predict(cpu, own, x, True)
    assert_allclose(parallel, predict(ref, copy(own, "float64"), x.astype("float64"), True), atol=1e-5)
    monkeypatch.setattr("fastnn.kernels.cpu.mlp.PARALLEL_ABOVE", 10**12)
    assert_array_equal(parallel, predict(cpu, own, x, True))


@pytest.mark.parametrize("n", [1, 48, 49])  # row by row up to 480 scores, beyond that transposed
def test_probabilities_are_the_softmax_of_scores_to_the_bit(n):
    own = stages(*mlp(20, 10), "float32")
    x = 9 * np.random.default_rng(0).standard_normal((n, 20)).astype("float32")
    scores, want = predict(cpu, own, x, False), np.empty((n, 10), "float32")
    cpu.softmax_forward(scores, want)
    assert_array_equal(predict(cpu, own, x, True), want)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
class TestAtOnce:
    """What is called past Numba's dispatcher."""

    @pytest.mark.parametrize("max_norm", [0.0, 0.01])
    @pytest.mark.parametrize("kind", ["indices", "rows"])
    @pytest.mark.parametrize("parallel_above", [0, 10**9])
    def test_step_to_the_same_bits(self, dtype, kind, max_norm, parallel_above, monkeypatch):
        monkeypatch.setattr("fastnn.kernels.cpu.mlp.PARALLEL_ABOVE", parallel_above)
        plan_stages = stages(*mlp(3, 7, 4), dtype)
        x, (t, t_rows) = np.random.default_rng(0).random((9, 3)).astype(dtype), labels(9, 4, kind, dtype)
        results = []
        for at_once in (False, True):
            own = copy(plan_stages, dtype)
            plan = cpu.mlp_plan(own)
            workspace = cpu.mlp_workspace(plan, 9, dtype)
            numbers, losses = np.array([[0.0, 1.0, 0.1]], dtype), np.empty(1)
            if at_once:
                losses[0] = workspace.at_once(x, t if t.size else t_rows, numbers, max_norm)
            else:
                cpu.mlp_train(plan, workspace, x, t, t_rows, np.arange(9), 9, numbers, max_norm, losses)
            results.append([losses, *(a for stage in own for a in stage[:4] if a is not None)])
        for a, b in zip(*results, strict=True):
            assert_array_equal(a, b)

    @pytest.mark.parametrize("parallel_above", [0, 10**9])
    def test_leaves_all_else_alone(self, dtype, parallel_above, monkeypatch):
        monkeypatch.setattr("fastnn.kernels.cpu.mlp.PARALLEL_ABOVE", parallel_above)
        other = "float64" if dtype == "float32" else "float32"
        own = stages(*mlp(3, 7, 4), dtype)
        plan = cpu.mlp_plan(own)
        workspace, x, t = cpu.mlp_workspace(plan, 9, dtype), np.ones((9, 3), dtype), np.zeros(9, np.intp)
        step = workspace.at_once
        before, rows = copy(own, dtype), np.ones((9, 4), dtype)
        numbers = np.array([[0.0, 1.0, 0.1]], dtype)
        for wrong in [
            (x.astype(other), t), (x.tolist(), t), (x[0], t), (x[:, :2], t), (np.ones((3, 9), dtype).T, t),
            (x[:0], t[:0]),
            (np.ones((10, 3), dtype), np.zeros(10, np.intp)), (x, t[:8]), (x, t.tolist()), (x, t.astype("int32")),
            (x, t + 4), (x, t - 1), (x, t * 1.0), (x, rows[:, :3]), (x, rows[:8]), (x, rows * np.nan), (x, None),
            (x, rows.astype(other)), (None, t), (x.view(np.matrix), t),
        ]:  # fmt: skip
            assert step(*wrong, numbers, 0.0) is False
        assert step(x, t) is False
        for a, b in zip(own, before, strict=True):
            for p, q in zip(a[:2], b[:2], strict=True):
                assert_array_equal(p, q)

    def test_prediction(self, dtype):
        own = stages(*mlp(3, 7, 4), dtype)
        plan = cpu.mlp_plan(own)
        x, want, out = np.ones((9, 3), dtype), np.empty((9, 4), dtype), np.empty((9, 4), dtype)
        workspace = cpu.mlp_predict_workspace(plan, dtype)
        for probabilities in (True, False):
            cpu.mlp_predict(plan, workspace, x, probabilities, want)
            assert workspace.at_once(x, out, probabilities) is True
            assert_array_equal(out, want)
        fixed = out.copy()
        fixed.flags.writeable = False
        for wrong in [
            (x, fixed, True),
            (x, out[:8], True),
            (x, out, 1),
            (x, [0], True),
            (x[0], out[0], True),
            (x, out),
        ]:
            assert workspace.at_once(*wrong) is False

    def test_prediction_only_in_its_thread_and_while_layers_have_the_parameters(self, dtype):
        own = stages(*mlp(3, 7, 4), dtype)
        layers = [SimpleNamespace(params=[W, b]) for W, b, *_ in own]
        x, out = np.ones((9, 3), dtype), np.empty((9, 4), dtype)
        workspace = cpu.mlp_predict_workspace(cpu.mlp_plan(own), dtype, layers)
        at_once = workspace.at_once
        assert at_once(x, out, True) is True
        with ThreadPoolExecutor(1) as threads:
            assert threads.submit(at_once, x, out, True).result() is False
        last, (W, b) = layers[-1], layers[-1].params
        counts = [sys.getrefcount(a) for a in (W, b, last.params)]
        for other in ([W.copy(), b], [W, b.copy()], [], [W], (W, b), None):
            last.params = other
            assert at_once(x, out, True) is False
        del last.params
        assert at_once(x, out, True) is False
        last.params = params = [W, b]
        assert at_once(x, out, True) is True
        assert [sys.getrefcount(a) for a in (W, b, params)] == [*counts[:2], counts[2] + 1]
