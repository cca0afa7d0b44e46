"""fastnn/optimizer.py against the book's formulas, written out here, and AdamW's against its paper's."""

import copy
import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

import fastnn
from fastnn.models import Parameters, TwoLayerNet
from fastnn.optimizer import SGD, AdaGrad, Adam, AdamW, Momentum, Nesterov, RMSprop
from fastnn.serialize import load_arrays, save_arrays
from fastnn.util import clip_grads
from tests.layouts import LAYOUTS

ALL = (SGD, Momentum, Nesterov, AdaGrad, RMSprop, Adam, AdamW)


def book(name, params, grads_of_steps, lr=0.1, momentum=0.9, decay_rate=0.99, beta1=0.9, beta2=0.999):
    """Deep Learning from Scratch 1, common/optimizer.py: what remains of params after these steps."""
    params = [p.copy() for p in params]
    v, h, m = ([np.zeros_like(p) for p in params] for _ in range(3))
    for t, grads in enumerate(grads_of_steps, start=1):
        for i, grad in enumerate(grads):
            if name == "SGD":
                params[i] -= lr * grad
            elif name == "Momentum":
                v[i] = momentum * v[i] - lr * grad
                params[i] += v[i]
            elif name == "Nesterov":
                v[i] *= momentum
                v[i] -= lr * grad
                params[i] += momentum * momentum * v[i]
                params[i] -= (1 + momentum) * lr * grad
            elif name == "AdaGrad":
                h[i] += grad * grad
                params[i] -= lr * grad / (np.sqrt(h[i]) + 1e-7)
            elif name == "RMSprop":
                h[i] *= decay_rate
                h[i] += (1 - decay_rate) * grad * grad
                params[i] -= lr * grad / (np.sqrt(h[i]) + 1e-7)
            elif name == "Adam":
                lr_t = float(lr * np.sqrt(1.0 - beta2**t) / (1.0 - beta1**t))
                m[i] += (1 - beta1) * (grad - m[i])
                v[i] += (1 - beta2) * (grad**2 - v[i])
                params[i] -= lr_t * m[i] / (np.sqrt(v[i]) + 1e-7)
    return params


def arrays(shapes, dtype="float64", seed=0, steps=4):
    """Parameters, and gradients of some steps."""
    rng = np.random.default_rng(seed)
    params, *grads = [[rng.standard_normal(shape).astype(dtype) for shape in shapes] for _ in range(1 + steps)]
    return params, grads


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("make", [cls for cls in ALL if cls is not AdamW])
@pytest.mark.parametrize("kind", [list, "dict", Parameters])
def test_number_for_number_as_in_the_book(make, kind, dtype):
    params, steps = arrays([(3, 4), (4,), (5, 1, 2)], dtype)
    want = book(make.__name__, params, steps)
    names = ["W", "b", "W2"]
    as_kind = {
        list: list,
        "dict": lambda a: dict(zip(names, a, strict=True)),
        Parameters: lambda a: Parameters(dict(zip(names, a, strict=True))),
    }[kind]
    optimizer = make(lr=0.1)
    for grads in steps:
        before = [g.copy() for g in grads]
        optimizer.update(as_kind(params), as_kind(grads))
        for g, b in zip(grads, before, strict=True):
            assert_array_equal(g, b)
    for p, w in zip(params, want, strict=True):
        assert_array_equal(p, w)
    assert optimizer.iter == 4


def test_constructors_of_the_book():
    for optimizer, settings_ in [
        (SGD(), {"lr": 0.01}),
        (Momentum(), {"lr": 0.01, "momentum": 0.9}),
        (Nesterov(), {"lr": 0.01, "momentum": 0.9}),
        (AdaGrad(), {"lr": 0.01}),
        (RMSprop(), {"lr": 0.01, "decay_rate": 0.99}),
        (Adam(), {"lr": 0.001, "beta1": 0.9, "beta2": 0.999}),
    ]:
        assert {name: getattr(optimizer, name) for name in settings_} == settings_
        again = type(optimizer)(*settings_.values())
        assert {name: getattr(again, name) for name in settings_} == settings_
        assert again.weight_decay == 0


@settings(deadline=None, max_examples=60)
@given(
    make=st.sampled_from([cls for cls in ALL if cls is not AdamW]),
    shapes=st.lists(st.lists(st.integers(1, 9), min_size=1, max_size=3).map(tuple), min_size=1, max_size=4),
    layout=st.sampled_from(["contiguous", "strided", "reversed", "fortran", "byte-swapped", "unaligned"]),
    grad_layout=st.sampled_from([name for name in LAYOUTS if name != "list"]),
    dtype=st.sampled_from(["float32", "float64"]),
    grad_dtype=st.sampled_from(["float32", "float64"]),
    max_grad=st.none() | st.sampled_from([0.1, 1e3]),
)
def test_any_layout_and_dtype(make, shapes, layout, grad_layout, dtype, grad_dtype, max_grad):
    params, steps = arrays(shapes, dtype)
    params = [LAYOUTS[layout](p) for p in params]
    steps = [[LAYOUTS[grad_layout](g.astype(grad_dtype)) for g in grads] for grads in steps]
    if max_grad is not None and not all(g.flags.writeable for grads in steps for g in grads):
        max_grad = None
    plain = [[np.array(g, "float64") for g in grads] for grads in steps]
    for grads in plain:
        if max_grad is not None:
            clip_grads(grads, max_grad)
    want = book(make.__name__, [np.array(p, "float64") for p in params], plain)
    optimizer = make(lr=0.1)
    for grads in steps:
        optimizer.update(params, grads, max_grad)
    eps = 1e-4 if "float32" in (dtype, grad_dtype) else 1e-12  # 1 / √h magnifies the rounding of small gradients
    for p, w in zip(params, want, strict=True):
        assert_allclose(np.array(p), w, rtol=eps, atol=eps)


def test_parameters_that_share_memory_are_updated_in_turn():
    rng = np.random.default_rng(0)
    base = rng.standard_normal(40_000)
    params = [base, base, base[1:], base.reshape(200, 200).T]
    grads = [rng.standard_normal(p.shape) for p in params]
    want = base.copy()
    for p, g in zip([want, want, want[1:], want.reshape(200, 200).T], grads, strict=True):
        p -= 0.5 * g
    SGD(lr=0.5).update(params, grads)
    assert_array_equal(base, want)


@pytest.mark.parametrize("make", ALL)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_clipping_is_that_of_clip_grads(make, dtype):
    params, steps = arrays([(30, 40), (7,)], dtype)
    other = [p.copy() for p in params]
    fused, plain = make(lr=0.1), make(lr=0.1)
    for grads in steps:
        copies = [g.copy() for g in grads]
        fused.update(params, grads, max_grad=0.5)
        clip_grads(copies, 0.5)
        plain.update(other, copies)
        for a, b in zip([*params, *grads], [*other, *copies], strict=True):
            eps = 1e-5 if dtype == "float32" else 1e-12
            assert_allclose(a, b, rtol=eps, atol=eps)


@pytest.mark.parametrize("make", [cls for cls in ALL if cls is not AdamW])
def test_weight_decay_is_a_part_of_the_gradient(make):
    params, steps = arrays([(3, 4), (4,)])
    want = [p.copy() for p in params]
    decaying, plain = make(lr=0.1, weight_decay=0.3), make(lr=0.1)
    for grads in steps:
        decaying.update(params, grads)
        plain.update(want, [g + 0.3 * p for g, p in zip(grads, want, strict=True)])
    for p, w in zip(params, want, strict=True):
        assert_array_equal(p, w)


def test_adamw_after_loshchilov_and_hutter():
    (theta,), steps = arrays([(5, 6)])
    params, lr, wd, m, v = [theta.copy()], 0.1, 0.3, 0.0, 0.0
    optimizer = AdamW(lr=lr, weight_decay=wd)
    for t, (g,) in enumerate(steps, start=1):
        optimizer.update(params, [g])
        m = 0.9 * m + 0.1 * g
        v = 0.999 * v + 0.001 * g**2
        root = np.sqrt(v / (1 - 0.999**t)) + 1e-7 / np.sqrt(1 - 0.999**t)  # the book's epsilon stands before the bias
        theta = theta - lr * m / (1 - 0.9**t) / root - lr * wd * theta
    assert_allclose(params[0], theta, rtol=1e-12)


@pytest.mark.parametrize("make", ALL)
def test_settings_are_read_at_each_update(make):
    params, steps = arrays([(3, 4)], steps=2)
    want, optimizer, other = [params[0].copy()], make(lr=0.1), make(lr=0.1)
    optimizer.update(params, steps[0])
    other.update(want, steps[0])
    optimizer.lr = other.lr = 0.0
    before = params[0].copy()
    optimizer.update(params, steps[1])
    if make not in (Momentum, Nesterov):
        assert_array_equal(params[0], before)


# --- state ------------------------------------------------------------------------------------------------------


def through(path):
    def roundtrip(optimizer):
        save_arrays(path, optimizer.state(), dtype=None)
        other = type(optimizer)()
        other.load_state(load_arrays(path))
        return other

    return roundtrip


@pytest.mark.parametrize("make", ALL)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("way", ["safetensors", "npz", "pickle", "deepcopy"])
def test_a_restored_optimizer_goes_on_to_the_bit(make, dtype, way, tmp_path):
    params, steps = arrays([(3, 4), (4,)], dtype)
    optimizer = make(lr=0.1, weight_decay=0.02)
    for grads in steps[:2]:
        optimizer.update(params, grads)
    restored = {
        "pickle": lambda o: pickle.loads(pickle.dumps(o)),
        "deepcopy": copy.deepcopy,
    }.get(way, through(tmp_path / f"state.{way}"))(optimizer)
    other = [p.copy() for p in params]
    for grads in steps[2:]:
        optimizer.update(params, grads)
        restored.update(other, grads)
    for p, q in zip(params, other, strict=True):
        assert_array_equal(p, q)
    assert restored.iter == optimizer.iter == 4
    for name, value in optimizer.state().items():
        assert_array_equal(restored.state()[name], value, err_msg=name)


def test_a_deep_copy_of_model_and_optimizer_has_memory_of_its_own():
    params, steps = arrays([(3, 4)])
    optimizer = Adam()
    optimizer.update(params, steps[0])
    params_copy, grads_copy, optimizer_copy = copy.deepcopy((params, steps[0], optimizer))
    before = params[0].copy(), optimizer.state()["m.0"]
    optimizer_copy.update(params_copy, grads_copy)
    assert_array_equal(params[0], before[0])
    assert_array_equal(optimizer.state()["m.0"], before[1])
    assert (params_copy[0] != before[0]).all()


def test_a_state_is_a_copy():
    params, steps = arrays([(3, 4)])
    optimizer = Momentum()
    optimizer.update(params, steps[0])
    state = optimizer.state()
    assert set(state) == {"lr", "momentum", "weight_decay", "iter", "v.0"}
    before = state["v.0"].copy()
    optimizer.update(params, steps[1])
    assert_array_equal(state["v.0"], before)
    other = Momentum()
    other.load_state(state)
    other.update([params[0].copy()], steps[1])
    assert_array_equal(state["v.0"], before)


def test_state_none_starts_anew():
    params, steps = arrays([(3, 4)])
    optimizer, other, want = Momentum(), Momentum(), [params[0].copy()]
    optimizer.update([params[0].copy()], steps[0])
    optimizer.states = None
    optimizer.update(params, steps[1])
    other.update(want, steps[1])
    assert_array_equal(params[0], want[0])


def test_exchanged_arrays_go_on_with_the_state_as_in_the_book():
    params, steps = arrays([(3, 4)])
    want = book("Momentum", params, steps)
    optimizer = Momentum(lr=0.1)
    for grads in steps:
        params = [p.copy() for p in params]
        optimizer.update(params, [g.copy() for g in grads])
    assert_array_equal(params[0], want[0])


@pytest.mark.parametrize("make", ALL)
def test_compiled_step_and_layers_share_the_state(make):
    rng = np.random.default_rng(0)
    x, t = rng.standard_normal((20, 7)), rng.integers(4, size=20)
    nets = [TwoLayerNet(7, 9, 4, 1.0, "relu", "float64", rng=0) for _ in range(2)]
    mixed, plain = make(lr=0.01), make(lr=0.01)
    step = fastnn.compile(nets[0], mixed)
    for i in range(6):
        for net, optimizer in zip(nets, (mixed, plain), strict=True):
            if optimizer is mixed and i % 2:
                step(x, t)
            else:
                net.forward(x, t)
                net.backward()
                optimizer.update(net.params, net.grads)
        if i == 3:
            mixed.load_state(mixed.state())  # other arrays: the step must notice
    assert mixed.iter == 6
    for p, q in zip(nets[0].params, nets[1].params, strict=True):
        assert_allclose(p, q, rtol=1e-9)


# --- errors -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("params", "grads", "error", "message"),
    [
        ([np.ones(2)], [], ValueError, "SGD: params and grads must be of one length, got 1 and 0"),
        ([np.ones(2)], [np.ones(3)], ValueError, "SGD: gradient 0 must have the shape (2,) of its parameter, got (3,)"),
        ({"W": np.ones(2)}, [np.ones(2)], TypeError, "SGD: params and grads must both be lists or both be mappings"),
        ({"W": np.ones(2)}, {"b": np.ones(2)}, ValueError, "SGD: grads has no 'W'"),
    ],
)
def test_errors(params, grads, error, message):
    with pytest.raises(error) as caught:
        SGD().update(params, grads)
    assert str(caught.value) == message


def test_a_state_of_other_shapes():
    optimizer = Adam()
    optimizer.update([np.ones(3)], [np.ones(3)])
    for params, message in [
        ([np.ones(3), np.ones(3)], "Adam: params must be 1 arrays as its state, got 2"),
        (
            [np.ones(4)],
            "Adam: parameter 0 must be float64 of shape (3,) as its state, got float64 of shape (4,)",
        ),
        (
            [np.ones(3, "float32")],
            "Adam: parameter 0 must be float64 of shape (3,) as its state, got float32 of shape (3,)",
        ),
    ]:
        with pytest.raises(ValueError) as caught:
            optimizer.update(params, [np.ones_like(p) for p in params])
        assert str(caught.value) == message
    assert optimizer.iter == 1
    with pytest.raises(ValueError, match="max_grad must be positive or None, got 0"):
        optimizer.update([np.ones(3)], [np.ones(3)], max_grad=0)


def test_a_state_whose_arrays_differ():
    """Updates go by addresses: arrays that are too short would be written beyond their end."""
    params, grads = [np.ones((2, 3))], [np.ones((2, 3))]
    adam, momentum = Adam(), Momentum()
    for optimizer in (adam, momentum):
        optimizer.update(params, grads)
    state = adam.state()
    for v, message in [
        (np.zeros(1), r"Adam: parameter 0 must be float64 of shape \(1,\) as its state, got float64 of shape \(2, 3\)"),
        (np.zeros((2, 3), "float32"), "Adam: parameter 0 must be float32 of shape"),
    ]:
        adam.load_state(state | {"v.0": v})
        with pytest.raises(ValueError, match=message):
            adam.update(params, grads)
    for states in (momentum.states, [(np.zeros((3, 2)).T, np.zeros((2, 3)))]):
        adam.states = states
        with pytest.raises(ValueError, match="Adam: the state of parameter 0 must be m and v, contiguous, got"):
            adam.update(params, grads)


def test_a_setting_that_is_none_changes_no_parameter():
    optimizer, param = SGD(0.1), np.ones(3)
    optimizer.update([param], [np.ones(3)])
    optimizer.lr, before = None, param.copy()
    with pytest.raises(TypeError, match="SGD: settings must be numbers, got None"):
        optimizer.update([param], [np.ones(3)])
    assert_array_equal(param, before)


def test_no_array_of_a_state_can_be_exchanged_unnoticed():
    params = [np.ones(3)]
    momentum = Momentum()
    momentum.states = [(np.full(3, 1.0),)]
    momentum.update(params, [np.zeros(3)])
    with pytest.raises(TypeError):
        momentum.states[0] = (np.zeros(3),)


def test_a_state_of_another_optimizer():
    optimizer = Adam()
    optimizer.update([np.ones(3)], [np.ones(3)])
    state = optimizer.state()
    for other, given_, message in [
        (Momentum(), state, "Momentum.load_state: unexpected 'beta1' in the state"),
        (Adam(), {k: v for k, v in state.items() if k != "v.0"}, "Adam.load_state: no 'v.0' in the state"),
        (Adam(), {k: v for k, v in state.items() if k != "lr"}, "Adam.load_state: no 'lr' in the state"),
    ]:
        before = other.state()
        with pytest.raises(ValueError) as caught:
            other.load_state(given_)
        assert str(caught.value) == message
        assert other.state() == before
