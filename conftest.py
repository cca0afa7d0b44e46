"""A plain ``pytest`` runs the tests, ``pytest --benchmark-only`` the benchmarks."""

import pytest


def pytest_configure(config):
    chosen = config.args_source is not pytest.Config.ArgsSource.TESTPATHS
    if config.getoption("benchmark_only", default=False) and not chosen:
        config.args[:] = ["bench"]
