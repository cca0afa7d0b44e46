"""Every example in a docstring, and every >>> in the documents, runs and prints what it says."""

import doctest
import importlib
import pkgutil
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


DOCUMENTS = sorted((Path(__file__).resolve().parent.parent / "docs").glob("*.md"))


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_documents(path):
    assert doctest.testfile(str(path), module_relative=False).failed == 0
