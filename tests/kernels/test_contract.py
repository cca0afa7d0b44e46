"""ref, cpu and cuda offer the same functions with the same arguments, and each op has one file in each room."""

import ast
import inspect
from pathlib import Path

import pytest

from fastnn import kernels
from fastnn.kernels import cpu, ref

ROOM = Path(kernels.__file__).parent
ON_HOSTS_ONLY = {"shuffles"}  # of row numbers, which a GPU is sent


def names(module):
    return {name for name, value in vars(module).items() if callable(value) and not name.startswith("_")}


@pytest.mark.parametrize("name", sorted(names(ref)))
def test_same_arguments(name):
    assert list(inspect.signature(getattr(cpu, name)).parameters) == list(
        inspect.signature(getattr(ref, name)).parameters
    )


def test_reference_has_every_op_of_cpu():
    assert names(ref) >= names(cpu)


def ops(room):
    return {p.stem for p in (ROOM / room).glob("[a-z]*.py")}


def test_one_file_per_op_in_each_room():
    assert ops("ref") == ops("cpu") == ops("cuda") | ON_HOSTS_ONLY


def functions(path):
    """Names and arguments of a file's own functions: the room for GPUs cannot be imported everywhere."""
    body = ast.parse(path.read_text(encoding="utf-8")).body
    return {f.name: [a.arg for a in f.args.args] for f in body if isinstance(f, ast.FunctionDef) and f.name[0] != "_"}


@pytest.mark.parametrize("op", sorted(ops("cuda")))
def test_same_arguments_on_gpu(op):
    for name, arguments in functions(ROOM / "cuda" / f"{op}.py").items():
        assert arguments == list(inspect.signature(getattr(ref, name)).parameters)


def test_gpu_offers_what_its_files_hold():
    offered = ast.literal_eval(ast.parse((ROOM / "cuda" / "__init__.py").read_text(encoding="utf-8")).body[-1].value)
    held = [name for op in ops("cuda") for name in functions(ROOM / "cuda" / f"{op}.py")]
    assert sorted(offered) == sorted(["xp", *held])
    assert set(held) == names(ref) - ON_HOSTS_ONLY


def test_get_rejects_unknown_device():
    with pytest.raises(ValueError, match="device must be 'cpu', 'ref' or 'cuda', got 'tpu'"):
        kernels.get("tpu")


def test_cuda_without_gpu_says_why():
    if not (problem := kernels.gpu_problem()):
        pytest.skip("there is a GPU")
    with pytest.raises(RuntimeError, match=problem[:20]):
        kernels.get("cuda")


def test_for_array_rejects_other_types():
    with pytest.raises(TypeError, match="expected an array of NumPy or CuPy, got list"):
        kernels.for_array([1.0])
