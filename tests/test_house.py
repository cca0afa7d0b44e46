"""The rules of the house: who imports whom, what an import loads, what is packaged."""

import ast
import configparser
import graphlib
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
SOURCES = sorted([*ROOT.glob("fastnn/**/*.py"), *ROOT.glob("kernels/**/*.py")])

# module -> floors: a module imports only from lower floors (or its own package)
FLOORS = {"kernels": 0, "layers": 1, "models": 2, "optimizer": 2, "compiled": 3, "trainer": 4, "cli": 5}


def name_of(path):
    parts = path.relative_to(ROOT).with_suffix("").parts
    parts = parts if parts[0] == "fastnn" else ("fastnn", *parts)
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports(path):
    """Absolute names of all that a file imports, wherever in it."""
    yield from imported_by(ast.parse(path.read_text(encoding="utf-8")), path)


def imported_by(tree, path):
    package = name_of(path).split(".") if path.name == "__init__.py" else name_of(path).split(".")[:-1]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            module = ".".join([*base, *([node.module] if node.module else [])])
            yield module
            yield from (f"{module}.{alias.name}" for alias in node.names)


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: str(p.relative_to(ROOT)))
def test_imports_go_downwards(path):
    who = name_of(path).split(".")
    for target in imports(path):
        parts = target.split(".")
        assert parts[0] not in ("tests", "bench"), f"{path} imports {target}"
        if parts[0] != "fastnn":
            assert parts[0] != "cupy" or path.name == "_gpu.py" or "cuda" in who, f"{path} imports {target}"
            continue
        if who[1:2] == ["kernels"]:
            assert parts[1:2] == ["kernels"], f"{path} imports {target}: kernels know nothing of fastnn"
            rooms = {"ref", "cpu", "cuda"}
            if len(who) > 2 and len(parts) > 2 and {who[2], parts[2]} <= rooms:
                assert who[2] == parts[2], f"{path} imports {target}: rooms of kernels do not import each other"
        elif len(who) > 1 and len(parts) > 1 and who[1] in FLOORS and parts[1] in FLOORS and who[1] != parts[1]:
            assert FLOORS[parts[1]] < FLOORS[who[1]], f"{path} imports {target}: upwards"


def test_no_file_imports_itself_by_way_of_others():
    """Imports within functions count; those for type checkers, and the faces of packages, do not."""
    names = {name_of(path): path for path in SOURCES if path.name != "__init__.py"}
    for_types = ast.dump(ast.Name("TYPE_CHECKING", ast.Load()))
    graph = {}
    for name, path in names.items():
        tree = ast.parse(path.read_text(encoding="utf-8"))
        for block in ast.walk(tree):
            if isinstance(block, ast.If) and ast.dump(block.test) == for_types:
                block.body = [ast.Pass()]
        graph[name] = names.keys() & set(imported_by(tree, path))
    order = list(graphlib.TopologicalSorter(graph).static_order())  # raises CycleError, which names the circle
    assert order.index("fastnn.layers.affine") > order.index("fastnn.layers.matmul")


def test_only_the_system_report_reaches_into_a_room():
    """Kernels are reached through get and for_array."""
    for path in SOURCES:
        who = name_of(path)
        if who.startswith("fastnn.kernels") or who == "fastnn._system":
            continue
        assert not [t for t in imports(path) if t.startswith(("fastnn.kernels.cpu", "fastnn.kernels.ref"))], path


def test_import_is_light():
    code = (
        "import sys, fastnn, fastnn.layers, fastnn.functions, fastnn.trainer, fastnn.models, fastnn.dataset.mnist\n"
        "import fastnn.optimizer, fastnn.np, fastnn.cli\n"
        "print(*sorted({'numba', 'matplotlib', 'cupy', 'scipy', 'urllib.request'} & set(sys.modules)))"
    )
    out = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=True, cwd=ROOT
    )
    assert out.stdout.split() == []


def test_every_package_is_listed():
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    listed = set(setup["options"]["packages"].split())
    assert listed == {name_of(path) for path in SOURCES if path.name == "__init__.py"}


def test_every_test_mirrors_a_source():
    """tests/kernels/test_x.py tests kernels/*/x.py, and so on; what does not is named here."""
    across = {"contract", "cases", "report", "elementwise", "losses", "book", "house", "doctest", "install"}
    across |= {"arrays", "determinism", "every_layer", "nvrtc", "simulator"}
    stems = {path.stem.strip("_") for path in SOURCES} | across
    tests = {path.stem.removeprefix("test_") for path in ROOT.glob("tests/**/test_*.py")}
    assert tests <= stems, tests - stems
