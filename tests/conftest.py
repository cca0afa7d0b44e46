import numpy as np
import pytest

from fastnn import kernels


@pytest.fixture(params=["cpu"])
def k(request):
    """The kernel sets that are held against the reference."""
    return kernels.get(request.param)


@pytest.fixture
def rng():
    return np.random.default_rng(0)
