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


def trained(threads, hash_seed):
    env = {**os.environ, "PYTHONPATH": str(ROOT), "NUMBA_NUM_THREADS": str(threads), "PYTHONHASHSEED": str(hash_seed)}
    done = subprocess.run([sys.executable, "-c", TRAINING], env=env, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_processes_and_threads_do_not_change_a_bit():
    first = trained(2, 0)
    assert len(first) == 3
    assert trained(2, 1) == first
    assert trained(1, 2) == first
