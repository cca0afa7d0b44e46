import signal

import numpy as np
import pytest

from fastnn import kernels
from tests.devices import OnNumpyArrays, simulate_gpu


def pytest_addoption(parser):
    parser.addoption(
        "--device",
        default="cpu",
        choices=["cpu", "cuda"],
        help="cuda: run the tests of kernels on the GPU; where there is none, on a simulated one (needs g++)",
    )


def pytest_configure(config):
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as shells start background jobs; tests press Ctrl-C
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if config.getoption("device") == "cuda" and kernels.gpu_problem() and (problem := simulate_gpu()):
        raise pytest.UsageError(f"--device cuda: {problem}")


def pytest_collection_modifyitems(config, items):
    """Tests that do not ask for a device need not run again on another."""
    if config.getoption("device") == "cuda":
        items[:] = [item for item in items if {"device", "k", "xp"} & set(item.fixturenames)]


@pytest.fixture(scope="session")
def device(pytestconfig):
    """``"cpu"`` or ``"cuda"``."""
    return pytestconfig.getoption("device")


@pytest.fixture(scope="session")
def k(device):
    """The kernel set that is held against the reference. It takes NumPy arrays, whatever the device."""
    return OnNumpyArrays(kernels.get("cuda")) if device == "cuda" else kernels.get("cpu")


@pytest.fixture(scope="session")
def xp(device):
    """The array module of the device."""
    return kernels.get(device).xp


@pytest.fixture
def gpu(device, xp):
    """The module of arrays on the GPU."""
    if device == "cpu":
        pytest.skip("asks for --device cuda")
    return xp


@pytest.fixture
def counts(gpu):
    """What passed between the host and the simulated GPU; CuPy itself does not count."""
    if not hasattr(gpu, "counts"):
        pytest.skip("a real GPU is not watched")
    gpu.counts.clear()
    return gpu.counts


@pytest.fixture
def rng():
    return np.random.default_rng(0)
