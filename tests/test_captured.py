"""Steps as CUDA graphs, against the same steps by the layers: `pytest --device cuda`, on a GPU or a simulated one."""

import logging

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

import fastnn
from fastnn import config, optimizer
from fastnn._warmup import EXAMPLES
from fastnn.layers import Affine, Dropout, Relu, SoftmaxWithLoss, Sum, Tanh
from fastnn.models import MultiLayerNet, MultiLayerNetExtend, Network, SimpleConvNet
from fastnn.optimizer import SGD, Adam, Momentum
from fastnn.trainer import Trainer
from fastnn.util import remove_duplicate, to_cpu


@pytest.fixture(autouse=True)
def on_gpu(gpu):
    """All of these tests need one."""


def net(seed=0, **options):
    """What the one-launch kernel does not know: batch normalisation, dropout, weight decay."""
    options = {"use_batchnorm": True, "use_dropout": True, "dropout_ratio": 0.3, "weight_decay_lambda": 0.1, **options}
    return MultiLayerNetExtend(6, [8, 5], 3, rng=seed, **options).to("cuda")


def batch(gpu, n=7, seed=0, features=6, classes=3):
    rng = np.random.default_rng(seed)
    return gpu.asarray(rng.standard_normal((n, features), "float32")), gpu.asarray(rng.integers(0, classes, n))


def by_layers(model, rule, x, t, max_grad=None):
    """A step without a graph."""
    loss = model.forward(x, t)
    model.backward(input_gradient=False)
    rule.update(*remove_duplicate(model.params, model.grads), max_grad)
    return loss


def state(model):
    arrays = model._saved_arrays() if hasattr(model, "_saved_arrays") else dict(enumerate(model.params))
    return [to_cpu(a) for a in (*arrays.values(), *model.grads)]


def assert_same(model, other):
    for a, b in zip(state(model), state(other), strict=True):
        assert np.isfinite(a).all()
        assert_array_equal(a, b)


# ---- the same, bit for bit ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [name for name in optimizer.__all__ if name != "Optimizer"])
@pytest.mark.parametrize("max_grad", [None, 0.1])
def test_steps_are_those_of_the_layers(gpu, name, max_grad):
    rules = [getattr(optimizer, name)(lr=0.01, weight_decay=0.1) for _ in range(2)]
    nets = [net(), net()]
    step = fastnn.compile(nets[0], rules[0], max_grad)
    for i, n in enumerate([7, 7, 4, 7, 4, 4, 7]):  # shapes take turns
        x, t = batch(gpu, n, seed=i)
        if i == 4:
            rules[0].lr = rules[1].lr = 0.003
        assert float(step(x, t)) == float(by_layers(nets[1], rules[1], x, t, max_grad))
        assert_same(*nets)
    assert rules[0].iter == rules[1].iter == 7


@pytest.mark.parametrize("name", [name for name, example in EXAMPLES.items() if example.labels is None])
def test_every_layer(gpu, name):
    """Behind a layer with parameters, and before one, so that gradients go through it."""
    make, shape, _ = EXAMPLES[name]
    losses, nets = [], []
    x, t = (
        gpu.asarray(a) for a in (np.random.default_rng(1).standard_normal(shape, "float32"), [0, 1, 0, 2][: shape[0]])
    )
    for _ in range(2):
        rng = np.random.default_rng(0)

        def draw(*shape, rng=rng):
            return rng.standard_normal(shape).astype("float32")

        features = int(np.prod(make(draw).forward(np.ones(shape, "float32")).shape[1:]))
        layers = {"first": fastnn.layers.LeakyRelu(), "it": make(draw), "last": Affine(draw(features, 3), draw(3))}
        nets.append(Network(layers, SoftmaxWithLoss()).to("cuda"))
    rules = Momentum(lr=0.1), Momentum(lr=0.1)
    step = fastnn.compile(nets[0], rules[0])
    for _ in range(3):
        losses.append((float(step(x, t)), float(by_layers(nets[1], rules[1], x, t))))
        assert_same(*nets)
    assert all(a == b for a, b in losses) and len(set(losses)) == 3


@pytest.mark.parametrize("loss_layer", [n for n, example in EXAMPLES.items() if example.labels is not None])
def test_every_loss(gpu, loss_layer):
    make, shape, labels = EXAMPLES[loss_layer]
    x = np.random.default_rng(0).standard_normal(shape, "float32")
    t = gpu.asarray(labels(x))
    nets = [
        Network({"tanh": Tanh(), "last": Affine(np.eye(6, dtype="float32"), np.zeros(6, "float32"))}, make(None))
        for _ in range(2)
    ]
    rules = [Adam(), Adam()]
    step = fastnn.compile(nets[0].to("cuda"), rules[0])
    nets[1].to("cuda")
    for _ in range(3):
        assert float(step(gpu.asarray(x), t)) == float(by_layers(nets[1], rules[1], gpu.asarray(x), t))
    assert_same(*nets)


def test_images_of_bytes(gpu):
    rng = np.random.default_rng(0)
    x, t = gpu.asarray(rng.integers(0, 255, (5, 1, 8, 8), "uint8")), gpu.asarray(rng.integers(0, 3, 5))
    param = {"filter_num": 2, "filter_size": 3, "pad": 0, "stride": 1}
    nets = [SimpleConvNet((1, 8, 8), param, hidden_size=4, output_size=3, rng=0).to("cuda") for _ in range(2)]
    rules = SGD(lr=1e-3), SGD(lr=1e-3)
    step = fastnn.compile(nets[0], rules[0])
    for _ in range(3):
        assert float(step(x, t)) == float(by_layers(nets[1], rules[1], x, t))
    assert_same(*nets)


def test_shared_weights(gpu):
    W = np.random.default_rng(0).standard_normal((6, 6)).astype("float32")
    zeros = np.zeros(6, "float32")
    nets = []
    for _ in range(2):
        shared = W.copy()
        layers = {"a": Affine(shared, zeros.copy()), "tanh": Tanh(), "b": Affine(shared, zeros.copy())}
        nets.append(Network(layers, SoftmaxWithLoss()).to("cuda"))
    rules = SGD(lr=0.1), SGD(lr=0.1)
    step = fastnn.compile(nets[0], rules[0])
    x, t = batch(gpu)
    for _ in range(3):
        assert float(step(x, t)) == float(by_layers(nets[1], rules[1], x, t))
        assert_array_equal(to_cpu(nets[0].params[0]), to_cpu(nets[1].params[0]))


# ---- what changes meanwhile -----------------------------------------------------------------------------------------


def test_settings_of_layers_and_exchanged_arrays_are_noticed(gpu):
    nets, rules = [net(), net()], [Adam(), Adam()]
    step, (x, t) = fastnn.compile(nets[0], rules[0]), batch(gpu)

    def change(how):
        for model, rule in zip(nets, rules, strict=True):
            how(model, rule)
        for _ in range(2):
            assert float(step(x, t)) == float(by_layers(nets[1], rules[1], x, t))
            assert_same(*nets)

    def of(model, kind):
        return next(layer for layer in model.layers.values() if type(layer) is kind)

    change(lambda model, rule: None)
    change(lambda model, rule: setattr(of(model, Dropout), "dropout_ratio", 0.6))
    change(lambda model, rule: setattr(of(model, fastnn.layers.BatchNormalization), "momentum", 0.5))
    change(lambda model, rule: setattr(model, "weight_decay_lambda", 0.5))
    change(lambda model, rule: rule.load_state(rule.state()))
    change(lambda model, rule: model.params[0].fill(0.1))
    x, t = batch(gpu, n=9)
    change(lambda model, rule: None)


def test_a_parameter_exchanged_in_its_layer_is_noticed(gpu):
    layers = {"a": Affine(np.ones((6, 3), "float32"), np.zeros(3, "float32")), "tanh": Tanh()}
    model = Network(layers, SoftmaxWithLoss()).to("cuda")
    step, (x, t) = fastnn.compile(model, SGD(lr=0.1)), batch(gpu)
    first = float(step(x, t))
    step(x, t)
    model.layers["a"].W, model.layers["a"].b = gpu.ones((6, 3), "float32"), gpu.zeros(3, "float32")
    assert float(step(x, t)) == first
    assert float(step(x, t)) < first
    model.to("cpu")
    with pytest.raises(TypeError, match=r"^fastnn.compile: was compiled for the GPU, but the model is there no more"):
        step(x, t)


def test_many_shapes(gpu):
    """More than are kept."""
    nets, rules = [net(), net()], [SGD(), SGD()]
    step = fastnn.compile(nets[0], rules[0])
    for n in (*range(2, 13), 2):
        assert float(step(*batch(gpu, n))) == float(by_layers(nets[1], rules[1], *batch(gpu, n)))
    assert_same(*nets)


def test_results_are_not_overwritten(gpu):
    model = net()
    step, predict = fastnn.compile(model, SGD(lr=0.1)), fastnn.compile(model)
    x, t = batch(gpu)
    y = predict(x)
    losses, before = [step(x, t) for _ in range(3)], to_cpu(y)
    z = model.predict(x)  # by the layers, whose memory is not the graph's
    kept = to_cpu(z)
    step(x, t), predict(x)
    assert_array_equal(to_cpu(y), before)
    assert_array_equal(to_cpu(z), kept)
    assert len({float(loss) for loss in losses}) == 3


def test_steps_on_changing_streams(gpu):
    """A step follows the one before it, whatever the stream of either."""
    nets, rules = [net(), net()], [Momentum(), Momentum()]
    step, current = fastnn.compile(nets[0], rules[0]), gpu.cuda.get_current_stream()
    streams = [gpu.cuda.Stream(non_blocking=True) for _ in range(3)]
    batches = [batch(gpu, n=5 + i % 2, seed=i) for i in range(8)]
    losses = []
    for i, (x, t) in enumerate(batches):
        stream = streams[i % 3]
        stream.wait_event(current.record())
        with stream:
            losses.append(step(x, t))
    for stream in reversed(streams):
        current.wait_event(stream.record())
    for loss, (x, t) in zip(losses, batches, strict=True):
        assert float(loss) == float(by_layers(nets[1], rules[1], x, t))
    assert_same(*nets)


# ---- few launches, no waiting ---------------------------------------------------------------------------------------


def test_a_step_is_few_launches_and_waits_for_nothing(counts, gpu):
    model = net()
    step, predict, (x, t) = fastnn.compile(model, Adam()), fastnn.compile(model), batch(gpu)
    step(x, t), predict(x)
    counts.clear()
    for _ in range(5):
        step(x, t), predict(x)
    assert (counts["to_host"], counts["to_device"]) == (0, 0)
    assert counts["launches"] == 10  # of graphs; CuPy's own for what is written before are not counted


def test_an_epoch_copies_the_order_only(counts, gpu):
    step, (x, t) = fastnn.compile(net(), Adam()), batch(gpu, n=40)
    step.epoch(x, t, batch_size=8, rng=0)
    x, labels = step.data(x, t)
    counts.clear()
    losses = step.steps(x, labels, np.arange(40), 8)
    assert losses.shape == (5,) and counts["launches"] == 5
    assert (counts["to_host"], counts["to_device"]) == (0, 1)


# ---- training, prediction -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("labels", ["indices", "rows"])
def test_training_is_that_of_the_layers(gpu, caplog, labels):
    caplog.set_level(logging.DEBUG, "fastnn")
    x, t = batch(gpu, n=40)
    t = t if labels == "indices" else gpu.asarray(np.eye(3, dtype="float32")[to_cpu(t)])
    trainers = [Trainer(net(), Adam(), compiled=compiled) for compiled in (True, False)]
    for trainer in trainers:
        trainer.fit(x, t, max_epoch=3, batch_size=8, eval_interval=2, verbose=False, rng=0)
    assert "by the compiled step" in caplog.text
    assert trainers[0].loss_list == trainers[1].loss_list
    assert_same(*(trainer.model for trainer in trainers))


def test_images_train_as_they_are(gpu, caplog):
    caplog.set_level(logging.DEBUG, "fastnn")
    rng = np.random.default_rng(0)
    x, t = gpu.asarray(rng.standard_normal((12, 1, 8, 8), "float32")), gpu.asarray(rng.integers(0, 3, 12))
    param = {"filter_num": 2, "filter_size": 3, "pad": 0, "stride": 1}
    trainers = [
        Trainer(SimpleConvNet((1, 8, 8), param, 4, 3, rng=0).to("cuda"), SGD(), compiled=compiled)
        for compiled in (True, False)
    ]
    for trainer in trainers:
        trainer.fit(x, t, max_epoch=2, batch_size=4, eval_interval=1, verbose=False, rng=0)
    assert "by the compiled step" in caplog.text
    assert trainers[0].loss_list == trainers[1].loss_list


def test_a_wrong_label_is_named_by_fit(gpu):
    x, t = batch(gpu)
    t[2] = 5
    with pytest.raises(ValueError, match=r"t must hold class indices in \[0, 3\), got 5"):
        Trainer(net(), SGD()).fit(x, t, max_epoch=1, batch_size=4, verbose=False)
    with pytest.raises(ValueError, match=r"t must hold class indices in \[0, 3\), got 5"):
        fastnn.compile(net(), SGD()).epoch(x, t)


def test_prediction_follows_the_weights(gpu):
    model = net()
    predict = fastnn.compile(model)
    for n in (7, 4, 7):
        x, t = batch(gpu, n)
        by_layers(model, SGD(lr=0.1), x, t)
        assert_array_equal(to_cpu(predict(x)), to_cpu(model.predict(x)))
    out = gpu.empty((7, 3), "float32")
    x, _ = batch(gpu)
    assert predict(x, out=out, probabilities=True) is out
    assert_allclose(to_cpu(out).sum(axis=1), 1, rtol=1e-5)
    with pytest.raises(ValueError, match=r"out must be a float32 array of shape \(7, 3\) on the GPU, got float64"):
        predict(x, out=gpu.empty((7, 3)))


def test_gradient_changes_no_parameter(gpu):
    models, (x, t) = [net(), net()], batch(gpu)
    before = [to_cpu(p) for p in models[0].params]
    loss = fastnn.compile(models[0], SGD()).gradient(x, t)
    assert float(loss) == float(models[1].forward(x, t))
    models[1].backward()
    for p, q in zip(models[0].params, before, strict=True):
        assert_array_equal(to_cpu(p), q)
    assert_same(*models)


# ---- which way ------------------------------------------------------------------------------------------------------


def kind(model, rule=None):
    return type(fastnn.compile(model, rule)).__name__


def test_choice(gpu):
    small = MultiLayerNet(6, [5], 3, rng=0).to("cuda")
    assert kind(small) == "CompiledPrediction" and kind(small, SGD()) == "CompiledStep"
    large = MultiLayerNet(600, [500], 10, rng=0).to("cuda")  # 1.2 MB
    assert kind(large) == "CapturedPrediction" and kind(large, SGD()) == "CapturedStep"
    decays = MultiLayerNet(6, [5], 3, weight_decay_lambda=0.1, rng=0).to("cuda")
    assert kind(decays) == "CompiledPrediction" and kind(decays, SGD()) == "CapturedStep"
    weighted = Network(small.layers, SoftmaxWithLoss(label_smoothing=0.1))
    assert kind(weighted, SGD()) == "CapturedStep"


def test_switch_of_the_book(gpu, monkeypatch):
    monkeypatch.setattr(config, "GPU", True)
    step = fastnn.compile(MultiLayerNetExtend(6, [5], 3, use_batchnorm=True, rng=0), SGD())
    x, t = (to_cpu(a) for a in batch(gpu))
    assert np.isfinite(float(step(x, t)))


class OwnRelu(Relu):
    pass


@pytest.mark.parametrize(
    ("layer", "message"),
    [(Sum(), "layer 1 of Network is a Sum"), (OwnRelu(), "layer 1 of Network is a OwnRelu")],
)
def test_what_cannot_be_compiled(gpu, layer, message):
    layers = {"a": Affine(np.ones((2, 2)), np.ones(2)), "b": layer}
    with pytest.raises(TypeError, match=message):
        fastnn.compile(Network(layers, SoftmaxWithLoss()).to("cuda"))


def test_mixed_devices_are_one_line(gpu):
    step, (x, t) = fastnn.compile(net(), SGD()), batch(gpu)
    for mixed in ((to_cpu(x), t), (x, to_cpu(t))):
        with pytest.raises(TypeError, match=r"^fastnn: arrays must be on one device.*to_cpu.*") as e:
            step(*mixed)
        assert "\n" not in str(e.value)
