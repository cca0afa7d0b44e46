"""Trainer by the compiled step: the same curve as layer by layer, and only where the model allows."""

import logging
import os
import signal
import types

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

import fastnn
from fastnn._compiled_training import CompiledTraining
from fastnn.layers import Softmax
from fastnn.models import TwoLayerNet
from fastnn.optimizer import SGD, AdaGrad, Adam, AdamW, Momentum, Nesterov, RMSprop
from fastnn.trainer import Trainer
from tests.layouts import LAYOUTS
from tests.test_compiled import UserNet


def data(dtype="float64"):
    rng = np.random.default_rng(0)
    return rng.standard_normal((203, 7)).astype(dtype), rng.integers(4, size=203)


def net(dtype="float64"):
    return TwoLayerNet(7, 9, 4, 1.0, "relu", dtype, rng=0)


def fit(model, x, t, compiled, optimizer=None, **options):
    trainer = Trainer(model, optimizer or SGD(0.1), compiled=compiled)
    settings = {"max_epoch": 3, "batch_size": 20, "eval_interval": 4, "verbose": False, "rng": 0}
    trainer.fit(x, t, **(settings | options))
    return trainer


def way(caplog):
    return [record.message for record in caplog.records if record.name == "fastnn"]


@pytest.fixture(autouse=True)
def debug(caplog):
    caplog.set_level(logging.DEBUG, "fastnn")


@pytest.mark.parametrize("max_grad", [None, 0.05])
@pytest.mark.parametrize("eval_interval", [1, 4, 10, 1000, None])
@pytest.mark.parametrize("labels", ["indices", "uint8", "one-hot"])
def test_same_curve_as_layer_by_layer(caplog, labels, eval_interval, max_grad):
    x, t = data()
    t = {"indices": t, "uint8": t.astype("uint8"), "one-hot": np.eye(4, dtype=int)[t]}[labels]
    options = {"eval_interval": eval_interval, "max_grad": max_grad, "validation": (x, t)}
    fast, slow = (fit(net(), x, t, compiled, **options) for compiled in (True, False))
    assert way(caplog) == ["Trainer: by the compiled step"]  # once; and nothing when it is not asked for
    assert_allclose(fast.loss_list, slow.loss_list)
    assert_allclose(fast.accuracy_list, slow.accuracy_list)
    for a, b in zip(fast.model.params, slow.model.params, strict=True):
        assert_allclose(a, b, rtol=1e-10)


@pytest.mark.parametrize("make", [SGD, Momentum, Nesterov, AdaGrad, RMSprop, Adam, AdamW])
@pytest.mark.parametrize("max_grad", [None, 0.05])
def test_every_optimizer(caplog, make, max_grad):
    x, t = data()
    optimizers = [make(lr=0.01, weight_decay=0.1) for _ in range(2)]
    fast, slow = (
        fit(net(), x, t, compiled, optimizer, max_grad=max_grad)
        for compiled, optimizer in zip((True, False), optimizers, strict=True)
    )
    assert way(caplog) == ["Trainer: by the compiled step"]
    assert_allclose(fast.loss_list, slow.loss_list)
    assert optimizers[0].iter == optimizers[1].iter == 30
    for a, b in zip(fast.model.params, slow.model.params, strict=True):
        assert_allclose(a, b, rtol=1e-7, atol=1e-9)


def test_a_wrong_label_leaves_the_optimizer_where_it_was():
    x, t = data()
    optimizer = Adam()
    step = fastnn.compile(net(), optimizer)
    step(x[:20], t[:20])
    with pytest.raises(ValueError, match="class indices"):
        step(x[:20], t[:20] + 4)
    assert optimizer.iter == 1


@pytest.mark.parametrize("layout", LAYOUTS)
def test_data_of_any_layout(caplog, layout):
    x, t = data()
    given = LAYOUTS[layout](x)
    plain = np.array(given, "float64")
    fast, slow = fit(net(), given, t, True), fit(net(), plain, t, False)
    assert_allclose(fast.loss_list, slow.loss_list)
    assert_array_equal(np.array(given), plain)
    assert way(caplog) == ["Trainer: by the compiled step"]


@pytest.mark.parametrize("dtype", ["uint8", "float16", "float64"])
def test_data_of_another_dtype_than_the_network(dtype):
    x, t = data()
    x = (10 * x).astype(dtype) if dtype != "uint8" else (25 * abs(x)).astype(dtype)
    fast, slow = fit(net("float32"), x, t, True), fit(net("float32"), x.astype("float32"), t, False)
    assert_allclose(fast.loss_list, slow.loss_list, rtol=1e-4)


def test_data_that_layers_refuse():
    """Converted, it would lose its imaginary part, and words would become numbers."""
    x, t = data()
    for wrong in (x + 1j, x.astype(str), x.astype("datetime64[s]")):
        for compiled in (True, False):
            with pytest.raises(TypeError, match="Affine: x must hold real numbers of at most 64 bits, got dtype"):
                fit(net(), wrong, t, compiled)


def test_orders_drawn_at_once_take_little_memory(monkeypatch):
    """With whole batches and few parameters they would take a hundred times the memory of the data."""
    drawn = []

    def steps(step, x, labels, order, batch_size):
        drawn.append(len(order))
        return np.zeros(len(order) // batch_size)

    monkeypatch.setattr("fastnn.compiled.CompiledStep.steps", steps)
    monkeypatch.setattr("fastnn._compiled_training._ROWS_AT_ONCE", 2000)
    x, t = data()
    fit(net(), x, t, True, max_epoch=30, batch_size=203)
    assert drawn == [9 * 203] * 3 + [3 * 203]


def test_images():
    t = data()[1]
    model = TwoLayerNet(12, 5, 4, 1.0, dtype="float64", rng=0)
    images = np.random.default_rng(1).standard_normal((203, 3, 2, 2))
    other = TwoLayerNet(12, 5, 4, 1.0, dtype="float64", rng=0)
    assert_allclose(fit(model, images, t, True).loss_list, fit(other, images.reshape(203, 12), t, False).loss_list)


def test_a_class_as_in_the_book(caplog):
    x, t = data()
    fast, slow = (fit(UserNet(list, "loss_layer"), x, t, compiled) for compiled in (True, False))
    assert way(caplog) == ["Trainer: by the compiled step"]
    assert_allclose(fast.loss_list, slow.loss_list)


class Doubled(UserNet):
    """Computes something else than its layers in order."""

    def predict(self, x):
        return 2 * super().predict(x)

    def backward(self):
        dout = 2 * self._all[1].backward()
        for layer in reversed(self._all[0]):
            dout = layer.backward(dout)


class Frozen(UserNet):
    """Does not train its first layer."""

    def __init__(self):
        super().__init__(list, "loss_layer")
        self.params, self.grads = self.params[1:], self.grads[1:]


class FixedBatch(UserNet):
    """Takes batches of 20 only."""

    def __init__(self):
        super().__init__(list, "loss_layer")

    def forward(self, x, t):
        if len(x) != 20:
            raise ValueError("20, please")
        return super().forward(x, t)


class WithSoftmax(TwoLayerNet):
    def __init__(self):
        super().__init__(7, 9, 4, 1.0, dtype="float64", rng=0)
        self.layers["Softmax"] = Softmax()


class HalfSGD(SGD):
    def update(self, params, grads):
        for p, g in zip(params, grads, strict=True):
            p -= self.lr / 2 * g


@pytest.mark.parametrize(
    ("make", "optimizer", "reason"),
    [
        (lambda: Doubled(list, "loss_layer"), SGD, "the model computes something else than its layers in order"),
        (Frozen, SGD, "the model computes something else than its layers in order"),
        (WithSoftmax, SGD, "layer 3 of WithSoftmax is a Softmax"),
        (net, HalfSGD, "the optimizer must be of fastnn.optimizer, got HalfSGD"),
    ],
)
def test_what_is_left_to_the_layers(caplog, make, optimizer, reason):
    x, t = data()
    default, off = (fit(make(), x, t, compiled, optimizer(0.1)) for compiled in (True, False))
    assert len(way(caplog)) == 1
    assert "layer by layer" in way(caplog)[0]
    assert reason in way(caplog)[0]
    assert default.loss_list == off.loss_list
    for a, b in zip(default.model.params, off.model.params, strict=True):
        assert_array_equal(a, b)


def test_a_model_that_does_not_take_a_few_samples(caplog):
    x, t = data()
    default, off = (fit(FixedBatch(), x, t, compiled) for compiled in (True, False))
    assert default.loss_list == off.loss_list
    assert way(caplog)[0] == "Trainer: the model does not take a few samples (20, please)"


def test_wrong_labels_are_named_by_the_layer():
    x = data()[0]
    with pytest.raises(ValueError, match=r"SoftmaxWithLoss: t must hold class indices in \[0, 4\), got 4"):
        fit(net(), x, np.full(203, 4), True)


@pytest.mark.parametrize(("at_once", "done"), [(7, 21), (10, 30), (25, 25), (1000, 50)])
def test_ctrl_c_waits_until_all_that_was_done_is_counted(monkeypatch, at_once, done):
    x, t = data()
    orders = [np.arange(203)]

    def permutation(n):
        if len(orders) == 3:
            os.kill(os.getpid(), signal.SIGINT)
        shuffle = np.roll(np.arange(n), 50)
        orders.append(orders[-1][shuffle])
        return shuffle

    monkeypatch.setattr("fastnn.trainer.random_source", lambda *_: types.SimpleNamespace(permutation=permutation))
    monkeypatch.setattr(CompiledTraining, "_most_at_once", lambda *_: at_once)
    interrupted = fit(net(), x, t, True, max_epoch=5, eval_interval=1)
    assert interrupted.interrupted
    assert 10 * interrupted.current_epoch + interrupted._progress.iteration == done
    model = net()
    step = fastnn.compile(model, SGD(0.1))
    rows = np.concatenate([order[:200] for order in orders[1:]])[: 20 * done]
    assert_array_equal(interrupted.loss_list, step.steps(*step.data(x, t), rows, 20))
    for a, b in zip(interrupted.model.params, model.params, strict=True):
        assert_array_equal(a, b)


@pytest.mark.parametrize("checkpoint_every", [3, 10, 16])
def test_nothing_is_done_beyond_a_checkpoint(tmp_path, checkpoint_every):
    x, t = data()
    at = tmp_path / "checkpoint.npz"
    whole = fit(net(), x, t, True, max_epoch=4, checkpoint=at, checkpoint_every=checkpoint_every)
    rest = Trainer(net(), SGD(0.1))
    rest.resume(at)
    rest.fit(x, t, max_epoch=4, batch_size=20, eval_interval=4, verbose=False, rng=0)
    assert rest.loss_list == whole.loss_list
    for a, b in zip(rest.model.params, whole.model.params, strict=True):
        assert_array_equal(a, b)


def test_many_epochs_at_once_are_shuffled_as_one_by_one():
    """By compiled code from NumPy's global state, which is left where NumPy would leave it."""
    (x, t), runs = data(), []
    for rng in (None, np.random.RandomState(7)):
        np.random.seed(7)
        trainer = fit(net(), x, t, True, max_epoch=20, rng=rng)
        runs.append([trainer.loss_list, *trainer.model.params, (rng or np.random).random()])
    for a, b in zip(*runs, strict=True):
        assert_array_equal(a, b)
