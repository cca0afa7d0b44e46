"""Every example in a docstring, and every >>> in the documents, runs and prints what it says; the README's run."""

import doctest
import importlib
import pkgutil
import re
from pathlib import Path

import pytest

import fastnn.kernels

MODULES = sorted(
    module.name
    for package in (fastnn, fastnn.kernels)
    for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}.")
    if not module.name.endswith("__main__")
)


@pytest.mark.parametrize("name", MODULES)
def test_examples(name):
    if name == "fastnn._torch":
        pytest.importorskip("torch")
    if name.startswith("fastnn.kernels.cuda"):
        pytest.importorskip("cupy")
    assert doctest.testmod(importlib.import_module(name)).failed == 0


ROOT = Path(__file__).resolve().parent.parent
DOCUMENTS = sorted((ROOT / "docs").glob("*.md"))


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_documents(path):
    assert doctest.testfile(str(path), module_relative=False).failed == 0


def test_readme(capsys):
    """A training, then a loop of one's own with what that left."""
    blocks = re.findall(r"^```python\n(.*?)^```", (ROOT / "README.md").read_text(encoding="utf-8"), re.M | re.S)
    names = {}
    exec(blocks[0], names)
    assert float(re.search(r"test accuracy (\S+)", capsys.readouterr().out)[1]) > 0.95
    names |= {"x_batch": names["x"][:100], "t_batch": names["t"][:100]}
    exec(blocks[1], names)
    assert names["losses"].mean() < 0.1
    assert names["scores"].shape == (len(names["x_test"]), 10)
