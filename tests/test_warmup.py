"""warmup: what it compiled, no later process compiles."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

import fastnn
from fastnn.cli import main

ROOT = Path(fastnn.__file__).resolve().parent.parent

# Other shapes than the examples', small and large.
USE = """
import numba.core.event, numpy as np
with numba.core.event.install_recorder("numba:compile") as compilations:
    from fastnn.layers import Dropout, MeanSquaredError, Relu
    for samples in (7, 3000):
        x, relu, dropout, loss = np.ones((samples, 100), "float32"), Relu(), Dropout(), MeanSquaredError()
        loss.forward(dropout.forward(relu.forward(x)), x)
        relu.backward(dropout.backward(loss.backward()))
print(len(compilations.buffer))
"""


def test_a_later_process_compiles_nothing(tmp_path):
    env = {**os.environ, "PYTHONPATH": str(ROOT), "FASTNN_CACHE_DIR": str(tmp_path)}

    def run(*args):
        done = subprocess.run([sys.executable, *args], env=env, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stderr
        return done

    bar = run("-m", "fastnn", "warmup", "--layers", "Dropout", "MeanSquaredError", "Relu")
    assert "3/3" in bar.stderr
    assert run("-c", USE).stdout == "0\n"


# Of each layer something else than its example, small and large; whatever is not compiled yet is sought in the cache.
ANYTHING = """
import itertools, os, sys
import numpy as np
import fastnn
from fastnn import layers, models, optimizer
from fastnn.kernels.cpu._cache import KernelCache

fastnn.warmup(progress=False)
sought, load = [], KernelCache.load_overload

def seek(self, *args):
    sought.append(self._py_func.__qualname__)
    return load(self, *args)

KernelCache.load_overload = seek

draw = np.random.default_rng(0).standard_normal
for samples in (3, 900):
    labels = np.arange(samples) % 10
    x, images, rows = draw((samples, 40), "f4"), draw((samples, 4, 9, 10), "f4"), np.eye(10, dtype="f4")[labels]
    for layer, data in (
        (layers.Affine(draw((360, 10), "f4"), draw(10, "f4")), images),
        (layers.MatMul(draw((40, 50), "f4")), x),
        (layers.Convolution(draw((32, 4, 3, 3), "f4"), draw(32, "f4"), pad=1), images),
        (layers.Convolution(draw((32, 4, 1, 1), "f4"), draw(32, "f4"), stride=2), images),
        (layers.Convolution(draw((8, 2, 3, 3), "f4"), draw(8, "f4"), dilation=2, groups=2), images),
        (layers.Pooling(3, 3, stride=1, pad=1), images),
        (layers.AveragePooling(9, 10), images),
        (layers.BatchNormalization(*draw((2, 4), "f4")), images),
        (layers.BatchNormalization(*draw((2, 360), "f4")), images),
        (layers.BatchNormalization(*draw((2, 40), "f4")), x),
        (layers.Dropout(0.2, inverted=True), images),
        *((kind(), x) for kind in (layers.Gelu, layers.LeakyRelu, layers.LogSoftmax, layers.Relu, layers.Sigmoid)),
        *((kind(), images) for kind in (layers.Silu, layers.Softmax, layers.Softplus, layers.Tanh, layers.Flatten)),
        (layers.Gelu("tanh"), images),
    ):
        layer.backward(layer.forward(data))
    for kind, t in ((layers.SoftmaxWithLoss, labels), (layers.SoftmaxWithLoss, rows), (layers.SigmoidWithLoss, rows)):
        loss = kind()
        loss.forward(x[:, :10].copy(), t)
        loss.backward()
        loss.y
    for net, data in (
        (models.MultiLayerNet(40, [30, 30], 10, rng=0), x),
        (models.MultiLayerNetExtend(40, [30], 10, use_dropout=True, use_batchnorm=True, rng=0), x),
        (models.SimpleConvNet((4, 9, 10), rng=0), images),
    ):
        net.gradient(data, labels)
        net.predict(data)
        optimizer.Adam().update(net.params, net.grads)
    net = models.MultiLayerNet(40, [30, 30], 10, activation="sigmoid", rng=0)
    step = fastnn.compile(net, optimizer.Adam(), max_grad=1.0)
    step(x, labels), step(x, rows), step.epoch(x, labels, batch_size=3)
    predict = fastnn.compile(net)
    predict(x), predict(x, probabilities=True), predict(x[0])
print(*sorted(set(sought)))
"""


def test_nothing_is_left_out():
    env = {**os.environ, "PYTHONPATH": str(ROOT), "NUMBA_NUM_THREADS": "2"}
    done = subprocess.run([sys.executable, "-c", ANYTHING], env=env, capture_output=True, text=True, timeout=600)
    assert (done.returncode, done.stdout) == (0, "\n"), done.stdout + done.stderr


@pytest.mark.parametrize(("argument", "wrong"), [("dtypes", "float16"), ("layers", "Elu")])
def test_wrong_arguments(argument, wrong):
    with pytest.raises(ValueError, match=f"^warmup: {argument} must be of .*, got '{wrong}'$"):
        fastnn.warmup(**{argument: [wrong]})


def test_the_command_says_what_is_wrong(capsys):
    assert main(["warmup", "--layers", "Elu"]) == 1
    assert capsys.readouterr().err.startswith("fastnn: error: warmup: layers must be of Affine, ")
