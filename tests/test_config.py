import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import fastnn.np
from fastnn import config, kernels
from fastnn.layers import Relu

needs_no_gpu = pytest.mark.skipif(not kernels.gpu_problem(), reason="there is a GPU")


def test_np_is_numpy():
    assert fastnn.np.np is np
    assert fastnn.np.float32 is np.float32
    names = {}
    exec("from fastnn.np import *", names)
    assert names["np"] is np


@needs_no_gpu
def test_gpu_switch_without_gpu_fails_at_first_use_only(monkeypatch):
    monkeypatch.setattr(config, "GPU", True)
    layer = Relu()
    for use in (lambda: layer.forward([1.0]), lambda: fastnn.np.zeros(3)):
        with pytest.raises(RuntimeError) as caught:
            use()
        assert str(caught.value) == (
            f"fastnn: no GPU to compute on: {kernels.gpu_problem()}; set fastnn.config.GPU = False"
        )
    config.GPU = False
    assert layer.forward([1.0]) == [1.0]


def test_gpu_switch_before_other_imports():
    code = "from fastnn import config; config.GPU = True; import fastnn.layers, fastnn.models, fastnn.np; print('ok')"
    root = Path(__file__).resolve().parent.parent
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=root)
    assert out.stdout == "ok\n"
