"""The same seed gives the same bits: in processes of their own, on one thread and on two."""

import os
import subprocess
import sys
from pathlib import Path

import fastnn

ROOT = Path(fastnn.__file__).resolve().parent.parent

# Compiled steps, and layers; batches so large that kernels share them among threads.
TRAINING = """
import hashlib, sys
import numpy as np
from fastnn.models import MultiLayerNetExtend, SimpleConvNet, TwoLayerNet
from fastnn.optimizer import SGD, Adam
from fastnn.trainer import Trainer

rng = np.random.default_rng(0)
x, t = rng.standard_normal((768, 144), "float32"), rng.integers(0, 10, 768)
conv = {"filter_num": 8, "filter_size": 5, "pad": 0, "stride": 1}
for model, optimizer, data in (
    (TwoLayerNet(144, 200, 10, rng=0), Adam(), x),
    (MultiLayerNetExtend(144, [200], 10, use_dropout=True, use_batchnorm=True, rng=0), SGD(0.1), x),
    (SimpleConvNet((1, 12, 12), conv, rng=0), SGD(0.1), x.reshape(-1, 1, 12, 12)),
):
    trainer = Trainer(model, optimizer)
    trainer.fit(data, t, max_epoch=2, batch_size=256, eval_interval=1, rng=0, verbose=False)
    bits = b"".join(np.asarray(a).tobytes() for a in (*model.params, trainer.loss_list, model.predict(data)))
    print(type(model).__name__, hashlib.sha256(bits).hexdigest())
"""


def output_of(script, **environment):
    """The lines that a script prints in a process of its own."""
    env = {**os.environ, "PYTHONPATH": str(ROOT), **environment}
    done = subprocess.run([sys.executable, "-c", script], env=env, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def trained(threads, hash_seed):
    return output_of(TRAINING, NUMBA_NUM_THREADS=str(threads), PYTHONHASHSEED=str(hash_seed))


def test_processes_and_threads_do_not_change_a_bit():
    first = trained(2, 0)
    assert len(first) == 3
    assert trained(2, 1) == first
    assert trained(1, 2) == first


# Kernels whose sums run over rows and planes, of sizes that one thread and two compute.
KERNELS = """
import hashlib
import numpy as np
import fastnn
from fastnn.layers import BatchNormalization, SoftmaxWithLoss

rng = np.random.default_rng(0)
for shape in ((30, 70), (130, 701), (97, 6, 11, 13)):
    x, dout, weights = *rng.standard_normal((2, *shape)), rng.standard_normal((2, shape[1]))
    for threads in (1, 2):
        with fastnn.threads(threads):
            layer = BatchNormalization(*weights)
            results = [layer.forward(x), layer.backward(dout), *layer.grads]
            if len(shape) == 2:
                loss = SoftmaxWithLoss()
                results += [loss.forward(x, np.arange(shape[0]) % shape[1]), loss.backward()]
        print(shape, hashlib.sha256(b"".join(np.asarray(a).tobytes() for a in results)).hexdigest())
"""


def test_compiling_a_kernel_and_reading_it_from_the_cache_give_the_same_bits(tmp_path):
    """By itself Numba compiles what a kernel calls twice, alone and within it, and runs now the one, now the other."""
    compiled, read = (output_of(KERNELS, FASTNN_CACHE_DIR=str(tmp_path), NUMBA_NUM_THREADS="2") for _ in range(2))
    assert read == compiled
    assert len(compiled) == 6
    assert compiled[::2] == compiled[1::2]
