import tracemalloc

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from fastnn import config
from fastnn.layers import Affine, Relu, Sigmoid, SoftmaxWithLoss
from fastnn.models import Network, TwoLayerNet
from fastnn.optimizer import SGD, Adam


def numpy_net(params, x, t, activation):
    """Loss and gradients of the network, written out in NumPy."""
    W1, b1, W2, b2 = params
    a = x @ W1 + b1
    h = 1 / (1 + np.exp(-a)) if activation == "sigmoid" else np.maximum(a, 0)
    s = h @ W2 + b2
    e = np.exp(s - s.max(axis=1, keepdims=True))
    y = e / e.sum(axis=1, keepdims=True)
    loss = -np.mean(np.log(y[np.arange(len(t)), t]))
    ds = (y - np.eye(y.shape[1])[t]) / len(t)
    dh = ds @ W2.T * (h * (1 - h) if activation == "sigmoid" else h > 0)
    return loss, [x.T @ dh, dh.sum(axis=0), h.T @ ds, ds.sum(axis=0)]


@pytest.fixture
def batch(rng):
    return rng.standard_normal((20, 7)), rng.integers(4, size=20)


@pytest.mark.parametrize("activation", ["sigmoid", "relu"])
def test_loss_and_gradients(activation, batch):
    x, t = batch
    net = TwoLayerNet(7, 5, 4, 1.0, activation, "float64", rng=0)
    loss, grads = numpy_net(net.params, x, t, activation)
    assert_allclose([net.forward(x, t), net.loss(x, t), net.loss(x, np.eye(4)[t])], loss)
    net.backward()
    for got, want in zip(net.grads, grads, strict=True):
        assert_allclose(got, want, atol=1e-15)


@pytest.mark.parametrize("activation", ["sigmoid", "relu"])
def test_gradient_equals_numerical_gradient(activation, batch):
    x, t = batch
    net = TwoLayerNet(7, 5, 4, 1.0, activation, "float64", rng=0)
    gradient, numerical = net.gradient(x, t), net.numerical_gradient(x, t)
    assert list(gradient.keys()) == list(numerical.keys()) == ["W1", "b1", "W2", "b2"]
    for name, g in gradient.items():
        assert_allclose(g, numerical[name], atol=1e-7)


def test_training_loop_of_book_1(batch):
    x, t = batch
    net = TwoLayerNet(7, 5, 4, dtype="float64", rng=0)
    want = [p.copy() for p in net.params]
    for _ in range(3):
        _, steps = numpy_net(want, x, t, "sigmoid")
        want = [p - 0.5 * g for p, g in zip(want, steps, strict=True)]
        grad = net.gradient(x, t)
        for key in ("W1", "b1", "W2", "b2"):
            net.params[key] -= 0.5 * grad[key]
    for p, w in zip(net.params, want, strict=True):
        assert_allclose(p, w)


def test_training_loop_of_book_2(batch):
    x, t = batch
    net = TwoLayerNet(7, 5, 4, dtype="float64", rng=0)
    want = [p.copy() for p in net.params]
    addresses = [p.ctypes.data for p in [*net.params, *net.grads]]
    optimizer = SGD(lr=0.5)
    for _ in range(3):
        _, steps = numpy_net(want, x, t, "sigmoid")
        want = [p - 0.5 * g for p, g in zip(want, steps, strict=True)]
        net.forward(x, t)
        net.backward()
        optimizer.update(net.params, net.grads)
    for i in range(len(net.params)):
        assert_allclose(net.params[i], want[i])
    assert [p.ctypes.data for p in [*net.params, *net.grads]] == addresses


def test_params_by_index_and_name():
    net = TwoLayerNet(7, 5, 4)
    assert net.params["W1"] is net.params[0] is net.layers["Affine1"].W
    assert net.grads["b2"] is net.grads[3] is net.layers["Affine2"].db
    assert list(net.params.keys()) == ["W1", "b1", "W2", "b2"]
    assert [name for name, _ in net.params.items()] == list(net.params.keys())
    assert [id(p) for p in net.params] == [id(p) for p in net.params.values()] == [id(p) for p in net.params[:]]
    assert "W2" in net.params
    assert "W3" not in net.params
    with pytest.raises(KeyError, match="no parameter 'W3'; there are W1, b1, W2, b2"):
        net.params["W3"]
    net.params["b1"] = np.ones(5)
    assert_array_equal(net.layers["Affine1"].b, np.ones(5))


def test_initial_weights():
    net = TwoLayerNet(300, 200, 10, weight_init_std=0.05, rng=3)
    assert net.params["W1"].std() == pytest.approx(0.05, rel=0.02)
    assert_array_equal(net.params["b1"], np.zeros(200))
    assert all(p.dtype == "float32" for p in net.params)
    again = TwoLayerNet(300, 200, 10, weight_init_std=0.05, rng=np.random.default_rng(3))
    assert_array_equal(net.params["W2"], again.params["W2"])


def test_weights_come_from_the_global_state_as_in_the_book():
    state = np.random.get_state()
    try:
        np.random.seed(7)
        W1, W2 = 0.01 * np.random.randn(2, 10), 0.01 * np.random.randn(10, 3)
        np.random.seed(7)
        net = TwoLayerNet(2, 10, 3, dtype="float64")
    finally:
        np.random.set_state(state)
    assert_array_equal(net.params["W1"], W1)
    assert_array_equal(net.params["W2"], W2)
    from_state = TwoLayerNet(2, 10, 3, dtype="float64", rng=np.random.RandomState(7))
    assert_array_equal(from_state.params["W1"], W1)


def test_default_dtype_follows_config(monkeypatch):
    monkeypatch.setattr(config, "dtype", "float64")
    assert TwoLayerNet(2, 3, 2).params[0].dtype == "float64"


def test_predict_and_accuracy(batch):
    x, t = batch
    net = TwoLayerNet(7, 5, 4, 1.0, rng=0)
    scores = net.predict(x)
    right = scores.argmax(axis=1) == t
    assert net.accuracy(x, t) == net.accuracy(x, np.eye(4)[t]) == right.mean()
    assert net.predict(x[0]).shape == (4,)
    assert net.accuracy(x[0], t[0]) == right[0]
    with pytest.raises(ValueError, match=r"accuracy: t must have shape \(20,\) or \(20, 4\), got \(19,\)"):
        net.accuracy(x, t[:-1])


@pytest.mark.parametrize("extension", ["safetensors", "npz"])
def test_saved_parameters_load(tmp_path, extension, batch):
    x, _ = batch
    net, other = TwoLayerNet(7, 5, 4, 1.0, rng=0), TwoLayerNet(7, 5, 4, 1.0, rng=1)
    net.save_params(tmp_path / f"weights.{extension}", dtype="float32")
    other.load_params(tmp_path / f"weights.{extension}")
    assert_array_equal(net.predict(x), other.predict(x))
    net.save_params(tmp_path / f"half.{extension}")
    other.load_params(tmp_path / f"half.{extension}")
    assert_array_equal(other.params["W1"], net.params["W1"].astype("float16"))
    with pytest.raises(ValueError, match="W1"):
        TwoLayerNet(7, 6, 4).load_params(tmp_path / f"half.{extension}")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"activation": "swish"}, "TwoLayerNet: activation must be 'sigmoid' or 'relu', got 'swish'"),
        ({"dtype": "float16"}, "TwoLayerNet: dtype must be float32 or float64, got float16"),
        ({"hidden_size": 0}, "TwoLayerNet: sizes must be at least 1, got 2, 0, 3"),
    ],
)
def test_errors(arguments, message):
    with pytest.raises(ValueError) as caught:
        TwoLayerNet(**{"input_size": 2, "hidden_size": 5, "output_size": 3, **arguments})
    assert str(caught.value) == message


def test_backward_may_leave_out_the_gradient_for_the_input(rng):
    net = TwoLayerNet(6, 5, 3, rng=0)
    x, t = rng.standard_normal((4, 6)), rng.integers(3, size=4)
    net.forward(x, t)
    assert net.backward().shape == x.shape
    want = [g.copy() for g in net.grads]
    for g in net.grads:
        g[...] = np.nan
    assert net.backward(input_gradient=False) is None
    for got, expected in zip(net.grads, want, strict=True):
        assert_array_equal(got, expected)


def test_layers_and_models_with_a_backward_of_their_own_are_not_bypassed(rng):
    class Twice(Affine):
        def backward(self, dout):
            dx = super().backward(dout)
            self.dW[...] *= 2
            return dx

    class Counted(Network):
        def backward(self, dout=1.0):
            self.count = getattr(self, "count", 0) + 1
            return super().backward(dout)

    x, t, W = rng.standard_normal((4, 6)), rng.integers(3, size=4), rng.standard_normal((6, 3))
    plain = Network({"a": Affine(W, np.zeros(3))}, SoftmaxWithLoss())
    own = Counted({"a": Twice(W, np.zeros(3))}, SoftmaxWithLoss())
    assert_array_equal(own.gradient(x, t)["W1"], 2 * plain.gradient(x, t)["W1"])
    assert own.count == 1
    Network({"a": Twice(W, np.zeros(3))}, SoftmaxWithLoss()).gradient(x, t)


def test_back_propagation_ends_at_the_lowest_layer_with_parameters(rng):
    class Untouchable(Relu):
        def backward(self, dout):
            raise AssertionError

    net = Network({"r": Untouchable(), "a": Affine(rng.standard_normal((6, 3)), np.zeros(3))}, SoftmaxWithLoss())
    net.gradient(rng.standard_normal((4, 6)), rng.integers(3, size=4))


@pytest.mark.parametrize("activation", [Relu, Sigmoid])
@pytest.mark.parametrize("shape", [(4, 6), (2, 2, 6), (6,), (4, 2, 3)])
def test_fused_layers_compute_what_they_do_one_by_one(activation, shape, rng):
    x = rng.standard_normal(shape)
    layers = {
        "a": Affine(rng.standard_normal((6, 5)), rng.standard_normal(5)),
        "f": activation(),
        "b": Affine(rng.standard_normal((5, 3)), rng.standard_normal(3)),
        "g": activation(),
    }
    net = Network(layers, SoftmaxWithLoss())
    want = x
    for layer in layers.values():
        want = layer.forward(want)
    dout = rng.standard_normal(want.shape)

    def backward():
        grad = dout
        for layer in reversed(layers.values()):
            grad = layer.backward(grad)
        return grad

    dx = backward()
    grads = [g.copy() for g in net.grads]
    assert_allclose(net.predict(x), want, rtol=1e-13)
    assert_allclose(backward(), dx, rtol=1e-12)
    for got, expected in zip(net.grads, grads, strict=True):
        assert_allclose(got, expected, rtol=1e-12)


@pytest.mark.parametrize("activation", [Relu, Sigmoid])
def test_fused_gradients_are_those_of_the_layers_one_by_one(activation, rng):
    layers = {
        "e": activation(),
        "a": Affine(rng.standard_normal((6, 5)), rng.standard_normal(5)),
        "f": activation(),
        "b": Affine(rng.standard_normal((5, 3)), rng.standard_normal(3)),
    }
    net, x, t = Network(layers, SoftmaxWithLoss()), rng.standard_normal((4, 6)), rng.integers(3, size=4)
    for other in (x, rng.standard_normal((4, 5))):
        net.forward(x, t)
        if other is not x:  # f is used elsewhere in between: its own output counts, as without fusing
            layers["f"].forward(other)
        want = net.loss_layer.backward()
        for layer in reversed(layers.values()):
            want = layer.backward(want)
        grads = [g.copy() for g in net.grads]
        assert_allclose(net.backward(), want, rtol=1e-12)
        for got, expected in zip(net.grads, grads, strict=True):
            assert_allclose(got, expected, rtol=1e-12)


def test_activations_with_a_forward_of_their_own_are_not_bypassed():
    class Negative(Relu):
        def forward(self, x):
            return -super().forward(x)

    net = Network({"a": Affine(np.eye(2), np.zeros(2)), "f": Negative(), "r": Relu()}, SoftmaxWithLoss())
    assert_array_equal(net.predict(np.array([[1.0, 2.0]])), [[0.0, 0.0]])


def test_training_allocates_no_array_after_its_first_steps(rng):
    """Outputs, gradients, the optimizer's state: all are recycled. (Products have scratch memory of their own.)"""
    x, t = rng.standard_normal((3000, 20)).astype("float32"), rng.integers(10, size=3000)
    net, optimizer = TwoLayerNet(20, 50, 10, rng=0), Adam()

    def step():
        net.forward(x, t)
        net.backward()
        optimizer.update(net.params, net.grads)

    for _ in range(3):
        step()
    tracemalloc.start()
    try:
        for _ in range(10):
            step()
        kept, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert kept < 5_000
    assert peak < 3000 * 10 * 4 / 2  # half of the smallest output
