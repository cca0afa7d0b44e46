import copy
import pickle
import re
import threading
import types
import weakref
from collections import OrderedDict

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

import fastnn
from fastnn.layers import (
    Affine,
    MatMul,
    MeanSquaredError,
    Relu,
    Sigmoid,
    SigmoidWithLoss,
    Softmax,
    SoftmaxWithLoss,
    Tanh,
)
from fastnn.models import Network, TwoLayerNet
from fastnn.optimizer import SGD, Adam
from fastnn.util import clip_grads
from tests.layouts import LAYOUTS


def batch(n=20, features=7, classes=4, seed=0):
    rng = np.random.default_rng(seed)
    return rng.standard_normal((n, features)), rng.integers(classes, size=n)


def net(dtype="float64", activation="relu", seed=0):
    return TwoLayerNet(7, 9, 4, 1.0, activation, dtype, rng=seed)


def layer_by_layer(model, optimizer, x, t, max_grad=None):
    loss = model.forward(x, t)
    model.backward()
    if max_grad is not None:
        clip_grads(model.grads, max_grad)
    optimizer.update(model.params, model.grads)
    return loss


class UserNet:
    """A class as in the book: layers and a loss layer, collected by hand."""

    def __init__(self, container, loss_name):
        rng = np.random.default_rng(5)
        layers = [
            MatMul(rng.standard_normal((7, 8))),
            Sigmoid(),
            Relu(),
            Affine(rng.standard_normal((8, 6)), np.zeros(6)),
            Affine(rng.standard_normal((6, 4)), np.zeros(4)),
            Sigmoid(),
        ]
        self.layers = (
            layers if container is list else OrderedDict((f"layer{i}", layer) for i, layer in enumerate(layers))
        )
        setattr(self, loss_name, SoftmaxWithLoss())
        self.params = [p for layer in layers for p in layer.params]
        self.grads = [g for layer in layers for g in layer.grads]
        self._all = layers, getattr(self, loss_name)

    def predict(self, x):
        for layer in self._all[0]:
            x = layer.forward(x)
        return x

    def forward(self, x, t):
        return self._all[1].forward(self.predict(x), t)

    def backward(self):
        dout = self._all[1].backward()
        for layer in reversed(self._all[0]):
            dout = layer.backward(dout)


def assert_same(model, other, rtol=1e-10):
    for name, a, b in zip(("params", "grads"), (model.params, model.grads), (other.params, other.grads), strict=True):
        for p, q in zip(a, b, strict=True):
            assert_allclose(p, q, rtol=rtol, atol=rtol, err_msg=name)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("activation", ["relu", "sigmoid"])
@pytest.mark.parametrize("max_grad", [None, 0.1, 1e3])
def test_step_equals_layer_by_layer(dtype, activation, max_grad):
    x, t = batch()
    x = x.astype(dtype)
    model, other = net(dtype, activation), net(dtype, activation)
    optimizer = SGD(0.3)
    step = fastnn.compile(model, optimizer, max_grad=max_grad)
    for i in range(5):
        optimizer.lr = 0.3 / (i + 1)  # read at each call
        loss = step(x, t)
        assert_allclose(loss, layer_by_layer(other, optimizer, x, t, max_grad), rtol=1e-5)
    assert_same(model, other, rtol=1e-5 if dtype == "float32" else 1e-12)


def regression(factor, dtype="float64"):
    rng = np.random.default_rng(0)
    arrays = [rng.standard_normal(shape).astype(dtype) for shape in ((7, 9), (9,), (9, 2), (2,))]
    return Network({"a": Affine(*arrays[:2]), "b": Tanh(), "c": Affine(*arrays[2:])}, MeanSquaredError(factor))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("factor", [1.0, 0.3])
def test_regression_equals_layer_by_layer(dtype, factor):
    x, _ = batch()
    x, t = x.astype(dtype), np.sin(3 * x[:, :2])
    model, other = regression(factor, dtype), regression(factor, dtype)
    step = fastnn.compile(model, SGD(0.1))
    for given in (t, t.astype(dtype), t.tolist(), t.astype(int)):
        assert_allclose(step(x, given), layer_by_layer(other, SGD(0.1), x, given), rtol=1e-5)
    losses = step.epoch(x, t, batch_size=5, rng=0)
    order = np.random.default_rng(0).permutation(20)
    for i, loss in enumerate(losses):
        rows = order[5 * i : 5 * i + 5]
        assert_allclose(loss, layer_by_layer(other, SGD(0.1), x[rows], t[rows]), rtol=1e-5)
    assert_same(model, other, rtol=2e-5 if dtype == "float32" else 1e-12)
    assert_allclose(fastnn.compile(model)(x), model.predict(x), rtol=1e-5)
    assert_allclose(step(x[0], t[0]), layer_by_layer(other, SGD(0.1), x[0], t[0]), rtol=2e-5)


@pytest.mark.parametrize("t", [np.zeros(20, int), np.zeros((20, 3)), np.zeros((19, 2)), np.zeros(40)], ids=np.shape)
def test_targets_of_another_shape(t):
    model = regression(1.0)
    step, before = fastnn.compile(model, SGD(0.1)), [p.copy() for p in model.params]
    with pytest.raises(ValueError, match=r"t must have the shape \(20, 2\)"):
        step(np.ones((20, 7)), t)
    assert_array_equal(np.concatenate(list(map(np.ravel, model.params))), np.concatenate(list(map(np.ravel, before))))


@pytest.mark.parametrize("container", [list, OrderedDict])
@pytest.mark.parametrize("loss_name", ["loss_layer", "last_layer", "lastLayer"])
def test_a_class_as_in_the_book(container, loss_name):
    x, t = batch()
    model, other = UserNet(container, loss_name), UserNet(container, loss_name)
    addresses = [p.ctypes.data for p in [*model.params, *model.grads]]
    step = fastnn.compile(model, SGD(0.3))
    for _ in range(3):
        assert_allclose(step(x, t), layer_by_layer(other, SGD(0.3), x, t))
    assert_same(model, other)
    assert [p.ctypes.data for p in [*model.params, *model.grads]] == addresses
    assert_allclose(fastnn.compile(model)(x), model.predict(x))


@pytest.mark.parametrize("form", ["uint8", "int32", "one-hot int", "one-hot float32", "soft", "list"])
def test_labels(form):
    x, t = batch()
    labels = {
        "uint8": t.astype("uint8"),
        "int32": t.astype("int32"),
        "one-hot int": np.eye(4, dtype=int)[t],
        "one-hot float32": np.eye(4, dtype="float32")[t],
        "soft": np.random.default_rng(0).random((20, 4)),
        "list": t.tolist(),
    }[form]
    model, other = net(), net()
    assert_allclose(fastnn.compile(model, SGD(0.1))(x, labels), layer_by_layer(other, SGD(0.1), x, labels))
    assert_same(model, other)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_any_layout(layout):
    x, t = batch()
    given = LAYOUTS[layout](x)
    plain = np.array(given, "float64")
    model, other = net(), net()
    assert_allclose(fastnn.compile(model, SGD(0.1))(given, t), layer_by_layer(other, SGD(0.1), plain, t))
    assert_array_equal(np.array(given), plain)
    assert_allclose(fastnn.compile(model)(given), model.predict(plain))


def test_batches_of_changing_size_images_and_one_sample():
    x, t = batch(50, 12)
    model = TwoLayerNet(12, 9, 4, 1.0, dtype="float64", rng=0)
    other = TwoLayerNet(12, 9, 4, 1.0, dtype="float64", rng=0)
    step = fastnn.compile(model, SGD(0.1))
    for rows in (slice(0, 5), slice(0, 50), slice(0, 1), slice(3, 30)):
        assert_allclose(step(x[rows].reshape(-1, 3, 2, 2), t[rows]), layer_by_layer(other, SGD(0.1), x[rows], t[rows]))
    assert_allclose(step(x[0], t[0]), layer_by_layer(other, SGD(0.1), x[0], t[0]))
    assert_same(model, other)


def test_epoch_is_the_steps_in_the_order_of_the_generator():
    x, t = batch(53)
    model, other = net(), net()
    losses = fastnn.compile(model, SGD(0.2)).epoch(x, t, batch_size=10, rng=np.random.default_rng(3))
    order = np.random.default_rng(3).permutation(53)
    step = fastnn.compile(other, SGD(0.2))
    want = [step(x[order[i : i + 10]], t[order[i : i + 10]]) for i in range(0, 50, 10)]
    assert_allclose(losses, want)
    assert_same(model, other)
    assert len(fastnn.compile(model, SGD(0.2)).epoch(x, np.eye(4)[t], batch_size=100, rng=0)) == 1


def test_steps_take_only_what_data_returns():
    x, t = batch(30)
    step = fastnn.compile(net(), SGD(0.2))
    rows, labels = step.data(x, t)
    assert step.steps(rows, labels, np.arange(30), 7).shape == (4,)
    for arguments, message in [
        (
            (rows[:, :5], labels, np.arange(30), 7),
            "steps needs x and labels as data returns them, got x float64 (30, 5) and labels int64 (30,)",
        ),
        *(
            (
                (rows, wrong, np.arange(30), 7),
                f"steps needs x and labels as data returns them, got x float64 (30, 7) and labels {name}",
            )
            for wrong, name in [
                (labels.astype("int32"), "int32 (30,)"),
                (labels * 1.0, "float64 (30,)"),
                (labels[:10], "int64 (10,)"),
                (labels.repeat(2)[::2], "int64 (30,)"),
                (np.zeros((30, 3)), "float64 (30, 3)"),
                (np.zeros((30, 4), int), "int64 (30, 4)"),
                (np.zeros((30, 4))[:, ::-1], "float64 (30, 4)"),
                (labels.tolist(), "list"),
            ]
        ),
        ((rows, labels, np.arange(30).reshape(2, 15), 7), "order must hold at least 7 rows in [0, 30)"),
        ((rows, labels, np.arange(30), 0), "batch_size must be at least 1, got 0"),
        ((rows, labels, np.arange(31), 7), "order must hold at least 7 rows in [0, 30)"),
        ((rows, labels, np.arange(-1, 20), 7), "order must hold at least 7 rows in [0, 30)"),
        ((rows, labels, np.arange(6), 7), "order must hold at least 7 rows in [0, 30)"),
        (
            (rows, labels + 4, np.arange(30), 7),
            "steps needs labels as data returns them, got some out of range or not finite",
        ),
    ]:
        with pytest.raises(ValueError) as caught:
            step.steps(*arguments)
        assert str(caught.value) == f"fastnn.compile: {message}"


@pytest.mark.parametrize("order", [np.arange(30) / 2, np.ones(30, bool)])
def test_an_order_is_of_integers(order):
    """NumPy would have made row numbers of halves, and of a mask."""
    step = fastnn.compile(net(), SGD(0.1))
    data = step.data(*batch())
    with pytest.raises(TypeError, match=f"order must hold row numbers, integers, got dtype {order.dtype}"):
        step.steps(*data, order, 7)


def test_any_integer_as_batch_size():
    """True once went to compiled code as a number of 8 bits."""
    x, t = batch(6)
    assert len(fastnn.compile(net(), SGD(0.2)).epoch(x, t, batch_size=True)) == 6
    assert len(fastnn.compile(net(), SGD(0.2)).epoch(x, t, batch_size=np.uint8(2))) == 3
    with pytest.raises(TypeError, match=r"fastnn.compile: batch_size must be an integer, got 1.5"):
        fastnn.compile(net(), SGD(0.2)).epoch(x, t, batch_size=1.5)


def test_arrays_that_a_step_has_addresses_of_live_as_long():
    x, t = batch()
    layer = Affine(np.zeros((7, 4)), np.zeros(4))
    model = types.SimpleNamespace(layers=[layer], loss_layer=SoftmaxWithLoss())
    step, predict = fastnn.compile(model, Adam()), fastnn.compile(model)
    step(x, t)
    predict(x)
    old = weakref.ref(layer.grads[0])
    layer.grads[0] = np.zeros((7, 4))
    assert old() is not None
    step(x, t)
    del step, predict
    assert old() is None


def test_one_step_in_threads_breaks_no_memory():
    """Its results are anyone's guess then. Batches grow, so that its memory is made anew."""
    model, errors = TwoLayerNet(64, 32, 4, rng=0), []
    step = fastnn.compile(model, SGD(0.0))

    def train(seed):
        rng = np.random.default_rng(seed)
        try:
            for n in range(1, 300):
                step(rng.standard_normal((n, 64), "float32"), rng.integers(4, size=n))
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=train, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors


def test_gradient_changes_no_parameter():
    x, t = batch()
    model, other = net(), net()
    loss = fastnn.compile(model, SGD(0.2), max_grad=1e-3).gradient(x, t)
    assert_allclose(loss, other.forward(x, t))
    other.backward()
    assert_same(model, other)


def test_epoch_draws_from_the_global_state_by_default():
    x, t = batch()
    state = np.random.get_state()
    np.random.seed(3)
    first = fastnn.compile(net(), SGD(0.2)).epoch(x, t, 5)
    np.random.set_state(state)
    assert_allclose(first, fastnn.compile(net(), SGD(0.2)).epoch(x, t, 5, rng=np.random.RandomState(3)))


def test_exchanged_parameters_are_noticed():
    x, t = batch()
    model, other = net(), net()
    step, predict = fastnn.compile(model, SGD(0.1)), fastnn.compile(model)
    step(x, t)
    for m in (model, other):
        m.layers["Affine1"].W = np.ones((7, 9))
    assert_allclose(predict(x), model.predict(x))
    other.layers["Affine2"].W[...] = model.layers["Affine2"].W
    other.layers["Affine1"].b[...] = model.layers["Affine1"].b
    other.layers["Affine2"].b[...] = model.layers["Affine2"].b
    assert_allclose(step(x, t), other.forward(x, t))


@pytest.mark.parametrize("n", [3, 3000])
@pytest.mark.parametrize("index", [0, 1])
def test_predictions_notice_exchanged_parameters(index, n):
    x, model = batch(n)[0], net()
    predict, layer = fastnn.compile(model), model.layers["Affine2"]
    assert_allclose(predict(x), model.predict(x))
    layer.params[index] = layer.params[index] + 1
    assert_allclose(predict(x), model.predict(x))
    layer.params = [p + 1 for p in layer.params]
    assert_allclose(predict(x), model.predict(x))
    layer.params = tuple(p + 1 for p in layer.params)
    assert_allclose(predict(x), model.predict(x))
    del layer.params
    with pytest.raises(AttributeError):
        predict(x)


@pytest.mark.parametrize("shapes", [[(7, 900), (9,)], [(7, 900), (900,)], [(7, 9), (2,)]])
def test_exchanged_parameters_must_fit_each_other_and_their_gradients(shapes):
    """Compiled code has only their addresses: it would write beyond the end of what is too small."""
    x, t = batch()
    model = net()
    step, predict = fastnn.compile(model, SGD(0.1)), fastnn.compile(model)
    step(x, t), predict(x)
    model.layers["Affine1"].params[:] = map(np.ones, shapes)
    message = f"Affine must have W, b and gradients that fit, got shapes {shapes} and [(7, 9), (9,)]"
    with pytest.raises(TypeError, match=re.escape(message)):
        step(x, t)
    with pytest.raises(TypeError, match=re.escape(message)):
        predict(x)


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda step: pickle.loads(pickle.dumps(step))])
def test_a_copy_has_a_model_of_its_own(copied):
    x, t = batch()
    model, optimizer = net(), Adam(0.01)
    step, predict = fastnn.compile(model, optimizer, max_grad=0.5), fastnn.compile(model)
    step(x, t), predict(x)
    other, step_copy, predict_copy = copied((model, step, predict))
    before = [p.copy() for p in model.params]
    losses = [step_copy(x, t) for _ in range(3)]
    assert_array_equal(predict_copy(x), other.predict(x))
    for p, kept in zip(model.params, before, strict=True):
        assert_array_equal(p, kept)
    assert_array_equal([step(x, t) for _ in range(3)], losses)
    assert_array_equal(predict(x), predict_copy(x))


def test_prediction_follows_the_weights():
    x, _ = batch()
    model = net()
    predict = fastnn.compile(model)
    first = predict(x)
    assert_allclose(first, model.predict(x))
    model.params["W1"][...] *= 2
    assert_allclose(predict(x), model.predict(x))
    assert not np.allclose(first, predict(x))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("n", [1, 10, 97, 1000])
def test_probabilities_and_out(dtype, n):
    x = batch(n)[0].astype(dtype)
    model = net(dtype, "sigmoid")
    predict = fastnn.compile(model)
    out = np.empty((n, 4), dtype)
    assert predict(x, out=out, probabilities=True) is out
    assert_allclose(out, Softmax().forward(model.predict(x)), rtol=1e-5)
    assert_allclose(out, predict(x, probabilities=True))
    single = predict(x[0], probabilities=True)
    assert single.shape == (4,)
    assert_allclose(single, out[0], rtol=1e-5)


def test_models_train_in_threads_at_once():
    x, t = batch(200)

    def train(model):
        step = fastnn.compile(model, SGD(0.1))
        for epoch in range(20):
            step.epoch(x, t, 20, rng=epoch)
        return model

    want = [train(net(seed=i)).params[:] for i in range(4)]
    models = [net(seed=i) for i in range(4)]
    threads = [threading.Thread(target=train, args=(model,)) for model in models]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for model, params in zip(models, want, strict=True):
        for a, b in zip(model.params, params, strict=True):
            assert_array_equal(a, b)


def test_one_prediction_serves_threads_at_once():
    x = batch(300)[0]
    model = net()
    predict = fastnn.compile(model)
    want = predict(x)
    wrong = []

    def serve():
        for _ in range(50):
            if not np.array_equal(predict(x), want):
                wrong.append(1)

    threads = [threading.Thread(target=serve) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def make(*layers, loss=SoftmaxWithLoss):
    return Network({str(i): layer for i, layer in enumerate(layers)}, loss())


W = np.ones((3, 3))


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (object(), "fastnn.compile: the model must have layers; object has none"),
        (
            make(Affine(W, W[0]), Softmax()),
            "fastnn.compile: layer 1 of Network is a Softmax; Affine, MatMul, Relu, Sigmoid and Tanh can be compiled",
        ),
        (make(Relu()), "fastnn.compile: Network has no Affine or MatMul layer"),
        (
            make(MatMul(W), loss=SigmoidWithLoss),
            "fastnn.compile: the loss_layer of Network must be SoftmaxWithLoss or MeanSquaredError, "
            "got SigmoidWithLoss",
        ),
        (
            make(MatMul(W), loss=lambda: SoftmaxWithLoss(ignore_index=0, label_smoothing=0.1)),
            "fastnn.compile: SoftmaxWithLoss with ignore_index, label_smoothing cannot be compiled",
        ),
        (
            make(MatMul(W), MatMul(W.astype("float32"))),
            "fastnn.compile: parameters must be of one dtype, got float32, float64",
        ),
        (
            make(MatMul(W), MatMul(np.ones((4, 3)))),
            "fastnn.compile: W of shape (4, 3) follows a layer with 3 outputs",
        ),
        (make(MatMul(W), MatMul(W.T)), "fastnn.compile: parameters of shapes (3, 3) share memory"),
        (
            make(MatMul(np.ones((6, 6))[::2, ::2])),
            "fastnn.compile: parameters must be contiguous and writeable, got one of shape (3, 3) that is not",
        ),
    ],
)
def test_what_cannot_be_compiled(model, message):
    with pytest.raises(TypeError) as caught:
        fastnn.compile(model, SGD())
    assert str(caught.value) == message


class OwnSGD(SGD):
    def update(self, params, grads):
        pass


def test_wrong_use():
    model = net("float32")
    step, predict = fastnn.compile(model, SGD(0.1)), fastnn.compile(model)
    x, t = batch()
    before, memory = [p.copy() for p in model.params], np.zeros(55_000, "float32")
    for call, error, message in [
        (
            lambda: fastnn.compile(model, OwnSGD()),
            TypeError,
            "fastnn.compile: the optimizer must be of fastnn.optimizer, got OwnSGD",
        ),
        (lambda: fastnn.compile(model, max_grad=1), TypeError, "fastnn.compile: max_grad needs an optimizer"),
        (
            lambda: fastnn.compile(model, SGD(), 0),
            ValueError,
            "fastnn.compile: max_grad must be positive or None, got 0",
        ),
        (lambda: step(x, t + 1), ValueError, "fastnn.compile: t must hold class indices in [0, 4), got 4"),
        (lambda: step(x, -t), ValueError, f"fastnn.compile: t must hold class indices in [0, 4), got {-t[t > 0][0]}"),
        (
            lambda: step(x, t[:-1]),
            ValueError,
            "fastnn.compile: t must be class indices of shape (20,) or labels of shape (20, 4), got shape (19,)",
        ),
        (
            lambda: step(x, t * 1.0),
            TypeError,
            "fastnn.compile: t must hold integers (class indices), got dtype float64",
        ),
        (
            lambda: step(x, np.full((20, 4), np.nan)),
            ValueError,
            "fastnn.compile: t must hold finite labels, got NaN or infinity",
        ),
        (
            lambda: step(x[:, :5], t),
            ValueError,
            "Affine: x must have 7 values a sample to fit W of shape (7, 9), got shape (20, 5)",
        ),
        (
            lambda: step(x[:0], t[:0]),
            ValueError,
            "fastnn.compile: x must hold at least one sample, got an empty array of shape (0, 7)",
        ),
        (lambda: step.epoch(x, t, 0), ValueError, "fastnn.compile: batch_size must be at least 1, got 0"),
        (lambda: step.epoch(x, t + 1, 5), ValueError, "fastnn.compile: t must hold class indices in [0, 4), got 4"),
        (
            lambda: predict(x, out=np.empty((20, 4))),
            ValueError,
            "fastnn.compile: out must be a contiguous float32 array of shape (20, 4), got float64 (20, 4)",
        ),
        (
            lambda: predict(x, out=[0]),
            ValueError,
            "fastnn.compile: out must be a contiguous float32 array of shape (20, 4), got list",
        ),
        *(
            (
                lambda n=n: predict(memory[: 7 * n].reshape(n, 7), out=memory[7 * n - 1 : 11 * n - 1].reshape(n, 4)),
                ValueError,
                "fastnn.compile: out must not overlap x, got one that does",
            )
            for n in (1, 20, 5000)
        ),
    ]:
        with pytest.raises(error) as caught:
            call()
        assert str(caught.value) == message
    for p, b in zip(model.params, before, strict=True):
        assert_array_equal(p, b)
