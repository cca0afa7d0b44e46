"""How ``pytest --benchmark-only`` runs: one arena for all tests, tables after them, the machine in the saved file."""

import pytest

from .arena import Arena

ARENA = pytest.StashKey[Arena]()


@pytest.fixture(scope="session")
def arena(request):
    """Where the selected contestants of all selected cases meet."""
    contests = {}
    for item in request.session.items:
        if hasattr(item, "callspec") and "peer" in item.callspec.params:
            contests.setdefault(item.callspec.params["case"], []).append(item.callspec.params["peer"])
    disabled = request.config.getoption("benchmark_disable")
    made = Arena(contests, 0 if disabled else request.config.getoption("benchmark_min_rounds"))
    request.config.stash[ARENA] = made
    return made


@pytest.hookimpl(optionalhook=True)
def pytest_benchmark_update_json(config, output_json):
    """Name the machine and its limits in the saved file; each benchmark has its own figures as extra_info."""
    if ARENA in config.stash:
        output_json["machine_info"] |= config.stash[ARENA].machine


@pytest.hookimpl(wrapper=True, tryfirst=True)  # before pytest-benchmark writes its file
def pytest_sessionfinish(session):
    if ARENA in session.config.stash and session.config.stash[ARENA].rounds:
        session.config.stash[ARENA].finish()
    return (yield)


@pytest.hookimpl(trylast=True)  # below pytest-benchmark's own tables
def pytest_terminal_summary(terminalreporter, config):
    """Answer the questions: how much faster than the best peer, in batches, in float32."""
    from . import report

    if ARENA in config.stash and config.stash[ARENA].records:
        for line in report.tables(config.stash[ARENA].records, config.stash[ARENA].machine):
            terminalreporter.write_line(line)
