"""MultiLayerNet and MultiLayerNetExtend, and what Network does for them: weight decay, the train flag, averages."""

import pickle

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

import fastnn
from fastnn.layers import Affine, Relu, SoftmaxWithLoss
from fastnn.models import MultiLayerNet, MultiLayerNetExtend, Network
from fastnn.optimizer import SGD
from fastnn.trainer import Trainer


@pytest.fixture
def batch(rng):
    return rng.standard_normal((20, 7)), rng.integers(4, size=20)


def assert_gradients(net, x, t):
    for name, p in net.params.items():
        if name.startswith("b"):
            p += 0.1  # else a sample for which a whole layer is 0 sits on the kink of the next
    gradient, numerical = net.gradient(x, t), net.numerical_gradient(x, t)
    assert list(gradient.keys()) == list(numerical.keys()) == list(net.params.keys())
    for name, g in gradient.items():
        assert_allclose(g, numerical[name], atol=1e-6, err_msg=name)


@pytest.mark.parametrize("activation", ["sigmoid", "relu"])
@pytest.mark.parametrize("weight_decay_lambda", [0, 0.3])
def test_gradients(activation, weight_decay_lambda, batch):
    net = MultiLayerNet(7, [5, 6], 4, activation, weight_decay_lambda=weight_decay_lambda, dtype="float64", rng=0)
    assert_gradients(net, *batch)


@pytest.mark.parametrize("weight_decay_lambda", [0, 0.3])
def test_gradients_with_batch_normalization(weight_decay_lambda, batch):
    net = MultiLayerNetExtend(
        7, [5, 6], 4, "sigmoid", use_batchnorm=True, weight_decay_lambda=weight_decay_lambda, dtype="float64", rng=0
    )
    names = ["W1", "b1", "gamma1", "beta1", "W2", "b2", "gamma2", "beta2", "W3", "b3"]
    assert list(net.params.keys()) == names
    assert_gradients(net, *batch)


def test_weight_decay_is_the_book_s(batch):
    x, t = batch
    plain = MultiLayerNet(7, [5], 4, dtype="float64", rng=0)
    net = MultiLayerNet(7, [5], 4, weight_decay_lambda=0.1, dtype="float64", rng=0)
    penalty = 0.05 * sum(np.sum(net.params[name] ** 2) for name in ("W1", "W2"))
    assert_allclose([net.loss(x, t), net.forward(x, t)], plain.loss(x, t) + penalty)
    decayed, grads = net.gradient(x, t), plain.gradient(x, t)
    for name, g in grads.items():
        assert_allclose(decayed[name], g + (0.1 * net.params[name] if name[0] == "W" else 0))


@pytest.mark.parametrize(
    ("weight_init_std", "std"),
    [("relu", np.sqrt(2 / 300)), ("He", np.sqrt(2 / 300)), ("sigmoid", 300**-0.5), ("xavier", 300**-0.5), (0.02, 0.02)],
)
def test_initial_weights(weight_init_std, std):
    net = MultiLayerNetExtend(300, [200], 10, weight_init_std=weight_init_std, use_batchnorm=True, rng=0)
    assert net.params["W1"].std() == pytest.approx(std, rel=0.02)
    for name, value in (("b1", 0), ("gamma1", 1), ("beta1", 0)):
        assert_array_equal(net.params[name], np.full(200, value))


def test_layers_and_memory():
    net = MultiLayerNetExtend(7, [5, 6], 4, use_dropout=True, dropout_ration=0.2, use_batchnorm=True)
    assert [type(layer).__name__ for layer in net.layers.values()] == [
        *["Affine", "BatchNormalization", "Relu", "Dropout"] * 2,
        "Affine",
    ]
    assert net.layers["Dropout2"].dropout_ratio == 0.2
    assert MultiLayerNetExtend(7, [5], 4, use_dropout=True, dropout_ratio=0.1).layers["Dropout1"].dropout_ratio == 0.1
    for parameters in (net.params, net.grads):  # one piece of memory each
        assert all(a.base is parameters[0].base for a in parameters)
    assert net.grads["gamma2"] is net.layers["BatchNorm2"].dgamma
    assert list(MultiLayerNet(3, [], 2).layers) == ["Affine1"]


def test_training_and_inference(batch):
    x, t = batch
    net = MultiLayerNetExtend(7, [50], 4, use_dropout=True, use_batchnorm=True, dtype="float64", rng=0)
    assert net.forward(x, t) != net.forward(x, t)  # what is dropped is drawn anew
    before = net.layers["BatchNorm1"].running_mean.copy()
    assert net.loss(x, t) == net.loss(x, t)
    assert_array_equal(net.predict(x), net.predict(x))
    net.accuracy(x, t)
    assert_array_equal(net.layers["BatchNorm1"].running_mean, before)
    net.gradient(x, t)
    assert (net.layers["BatchNorm1"].running_mean != before).all()
    assert (net.predict(x, train_flg=True) != net.predict(x, train_flg=True)).any()


def test_a_seed_repeats_the_training(batch):
    def losses():
        net = MultiLayerNetExtend(7, [50], 4, use_dropout=True, rng=5)
        trainer = Trainer(net, SGD(0.1))
        trainer.fit(*batch, max_epoch=3, batch_size=5, eval_interval=1, verbose=False, rng=0)
        return trainer.loss_list

    assert losses() == losses()


@pytest.mark.parametrize("extension", ["safetensors", "npz"])
def test_running_averages_are_saved_with_the_parameters(tmp_path, extension, batch):
    x, t = batch
    net, other = (MultiLayerNetExtend(7, [5], 4, use_batchnorm=True, rng=seed) for seed in (0, 1))
    net.gradient(x, t)
    net.save_params(tmp_path / f"weights.{extension}", dtype=None)
    other.load_params(tmp_path / f"weights.{extension}")
    assert_array_equal(other.predict(x), net.predict(x))


def test_weights_of_chapter_3(tmp_path, rng):
    """``sample_weight.pkl`` of the book: float32, under the names W1, b1, ..."""
    sizes = (784, 50, 100, 10)
    weights = {}
    for i, (D, F) in enumerate([(784, 50), (50, 100), (100, 10)], start=1):
        weights[f"b{i}"] = rng.standard_normal(F).astype("float32")
        weights[f"W{i}"] = rng.standard_normal((D, F)).astype("float32")
    with open(tmp_path / "sample_weight.pkl", "wb") as f:
        pickle.dump(weights, f, protocol=2)
    net = MultiLayerNet(sizes[0], sizes[1:-1], sizes[-1], activation="sigmoid")
    net.load_params(tmp_path / "sample_weight.pkl")
    y = x = rng.random((5, 784)).astype("float32")
    for i in (1, 2, 3):
        y = y @ weights[f"W{i}"] + weights[f"b{i}"]
        y = 1 / (1 + np.exp(-y)) if i < 3 else y
    assert_allclose(net.predict(x), y, rtol=1e-4, atol=1e-4)


def test_what_can_be_compiled(batch):
    x, t = batch[0].astype("float32"), batch[1]
    nets = [MultiLayerNet(7, [5, 6], 4, rng=0) for _ in range(2)]
    step = fastnn.compile(nets[0], SGD(0.1))
    for _ in range(3):
        loss = step(x, t)
        assert_allclose(loss, nets[1].forward(x, t), rtol=1e-5)
        nets[1].backward()
        SGD(0.1).update(nets[1].params, nets[1].grads)
    for p, q in zip(nets[0].params, nets[1].params, strict=True):
        assert_allclose(p, q, rtol=1e-5, atol=1e-6)
    for net, message in [
        (
            MultiLayerNet(7, [5], 4, weight_decay_lambda=0.1),
            "MultiLayerNet with weight_decay_lambda cannot be compiled",
        ),
        (MultiLayerNetExtend(7, [5], 4, use_dropout=True), "layer 2 of MultiLayerNetExtend is a Dropout"),
        (MultiLayerNetExtend(7, [5], 4, use_batchnorm=True), "layer 1 of MultiLayerNetExtend is a BatchNormalization"),
    ]:
        with pytest.raises(TypeError, match=message):
            fastnn.compile(net, SGD(0.1))


@pytest.mark.parametrize("options", [{"weight_decay_lambda": 0.01}, {"use_batchnorm": True, "use_dropout": True}])
def test_trainer_takes_the_others_layer_by_layer(options, rng):
    x = rng.standard_normal((200, 7)).astype("float32")
    t = (x @ rng.standard_normal((7, 4))).argmax(axis=1)
    net = MultiLayerNetExtend(7, [40], 4, rng=0, dropout_ratio=0.1, **options)
    Trainer(net, SGD(0.3)).fit(x, t, max_epoch=60, batch_size=20, verbose=False, rng=0)
    assert net.accuracy(x, t) > 0.85


def test_layers_of_a_user_are_told_of_training_if_they_ask(batch):
    class Noise(Relu):
        def forward(self, x, train_flg=True):
            self.told = train_flg
            return super().forward(x)

    x, t = batch
    noise = Noise()
    net = Network({"a": Affine(np.eye(7)[:, :4], np.zeros(4)), "n": noise, "r": Relu()}, SoftmaxWithLoss())
    for call, told in ((net.forward, True), (net.loss, False), (net.gradient, True), (net.accuracy, False)):
        call(x, t)
        assert noise.told is told


def test_accuracy_goes_through_few_samples_at_a_time(rng):
    class Counted(Network):
        def predict(self, x, train_flg=False):
            self.sizes.append(len(x))
            return super().predict(x, train_flg)

    net = Counted({"a": Affine(np.eye(3), np.zeros(3))}, SoftmaxWithLoss())
    x, t = rng.standard_normal((250, 3)), rng.integers(3, size=250)
    net.sizes = []
    assert net.accuracy(x, t) == np.mean(x.argmax(axis=1) == t)
    assert net.accuracy(x, np.eye(3)[t], batch_size=250) == np.mean(x.argmax(axis=1) == t)
    assert net.sizes == [100, 100, 50, 250]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"activation": "swish"}, "activation must be 'sigmoid' or 'relu', got 'swish'"),
        ({"hidden_size_list": [5, 0]}, "sizes must be at least 1, got 2, 5, 0, 3"),
        (
            {"weight_init_std": "best"},
            "weight_init_std must be a number, 'relu', 'he', 'sigmoid' or 'xavier', got 'best'",
        ),
        ({"weight_decay_lambda": -1}, "weight_decay_lambda must be at least 0, got -1"),
        ({"dtype": "int32"}, "dtype must be float32 or float64, got int32"),
    ],
)
def test_errors(arguments, message):
    with pytest.raises(ValueError) as caught:
        MultiLayerNet(**{"input_size": 2, "hidden_size_list": [5], "output_size": 3, **arguments})
    assert str(caught.value) == f"MultiLayerNet: {message}"
