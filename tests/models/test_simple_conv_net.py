"""SimpleConvNet and DeepConvNet."""

import os
import pickle

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

import fastnn
from fastnn.dataset.mnist import load_mnist
from fastnn.models import DeepConvNet, SimpleConvNet
from fastnn.optimizer import SGD, Adam
from fastnn.trainer import Trainer

SMALL = {"input_dim": (1, 8, 8), "hidden_size": 5, "output_size": 4, "rng": 0}
TWO_FILTERS = {"filter_num": 2, "filter_size": 3, "pad": 1, "stride": 1}


def simple(**options):
    return SimpleConvNet(**{**SMALL, "conv_param": {**TWO_FILTERS, "pad": 0}, **options})


def deep(**options):
    return DeepConvNet(**{**SMALL, **{f"conv_param_{i}": TWO_FILTERS for i in range(1, 7)}, **options})


@pytest.mark.parametrize("kind", [simple, deep])
def test_gradients(kind, rng):
    net = kind(dtype="float64")
    for name, p in net.params.items():
        p[...] = 0.5 * rng.standard_normal(p.shape) if name[0] == "W" else 0.1
    for layer in net.layers.values():
        if hasattr(layer, "dropout_ratio"):
            layer.dropout_ratio = 0.0  # differences need the same loss twice
    x, t = rng.standard_normal((3, 1, 8, 8)), rng.integers(4, size=3)
    gradient, numerical = net.gradient(x, t), net.numerical_gradient(x, t)
    for name, g in gradient.items():
        assert_allclose(g, numerical[name], atol=1e-6, err_msg=name)


def test_layers_are_the_book_s():
    net = SimpleConvNet()
    assert list(net.layers) == ["Conv1", "Relu1", "Pool1", "Affine1", "Relu2", "Affine2"]
    assert list(net.params.keys()) == ["W1", "b1", "W2", "b2", "W3", "b3"]
    assert net.params["W2"].shape == (30 * 12 * 12, 100)
    assert net.grads["W1"] is net.layers["Conv1"].dW
    net = DeepConvNet()
    assert [name for name in net.layers if not name.startswith("Relu")] == [
        *("Conv1", "Conv2", "Pool1", "Conv3", "Conv4", "Pool2", "Conv5", "Conv6", "Pool3"),
        *("Affine1", "Dropout1", "Affine2", "Dropout2"),
    ]
    assert list(net.params.keys()) == [f"{p}{i}" for i in range(1, 9) for p in "Wb"]
    assert net.params["W4"].shape == (32, 32, 3, 3)
    assert net.params["W7"].shape == (64 * 4 * 4, 50)
    assert net.params["W6"].std() == pytest.approx(np.sqrt(2 / (64 * 3 * 3)), rel=0.03)


@pytest.mark.parametrize(("kind", "file"), [(SimpleConvNet, "params.pkl"), (DeepConvNet, "deep_convnet_params.pkl")])
def test_weights_of_chapters_7_and_8(tmp_path, kind, file, rng):
    """The book saves float64 arrays under the names of its parameters."""
    net = kind(rng=0)
    weights = {name: rng.standard_normal(p.shape) for name, p in net.params.items()}
    with open(tmp_path / file, "wb") as f:
        pickle.dump(weights, f)
    net.load_params(tmp_path / file)
    for name, w in weights.items():
        assert_array_equal(net.params[name], w.astype("float32"))


def test_the_compiled_step_leaves_them_to_the_layers(rng):
    x, t = rng.standard_normal((20, 1, 8, 8)).astype("float32"), rng.integers(4, size=20)
    with pytest.raises(TypeError, match="layer 0 of SimpleConvNet is a Convolution"):
        fastnn.compile(simple(), SGD(0.1))
    net = simple()
    before = net.loss(x, t)
    Trainer(net, SGD(0.1)).fit(x, t, max_epoch=30, batch_size=10, verbose=False, validation=(x, t), rng=0)
    assert net.loss(x, t) < before


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"input_dim": (8, 8)}, "input_dim must be (channels, height, width), got (8, 8)"),
        ({"input_dim": (1, 2, 9)}, "images of 2 x 9, padding of 0 added, are smaller than filters of 3 x 3"),
        ({"input_dim": (1, 3, 9)}, "images of 1 x 7 are too small for pooling 2 x 2"),
        ({"hidden_size": 0}, "sizes must be at least 1, got 0, 4"),
        ({"dtype": "float16"}, "dtype must be float32 or float64, got float16"),
        (
            {"conv_param": {"filter_num": 3, "filter_size": 3, "stride": 1}},
            "a conv_param must have filter_num, filter_size, pad and stride; no 'pad'",
        ),
    ],
)
def test_errors(arguments, message):
    with pytest.raises(ValueError) as caught:
        simple(**arguments)
    assert str(caught.value) == f"SimpleConvNet: {message}"


@pytest.mark.slow
@pytest.mark.skipif("FASTNN_DATA_DIR" not in os.environ, reason="FASTNN_DATA_DIR does not name a folder with MNIST")
def test_mnist_after_one_epoch():
    """Book 1, section 7.5: mini-batches of 100, Adam. Weights of 0.01 and steps of 0.001, as there, reach 0.961."""
    (x, t), (x_test, t_test) = load_mnist(flatten=False)
    net = SimpleConvNet(weight_init_std=0.08, rng=0)
    Trainer(net, Adam(lr=0.002)).fit(x, t, max_epoch=1, batch_size=100, rng=0, verbose=False, progress=False)
    assert net.accuracy(x_test, t_test) >= 0.98
