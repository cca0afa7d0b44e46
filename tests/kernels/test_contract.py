"""ref and cpu offer the same functions with the same arguments, and each op has one file in each room."""

import inspect
from pathlib import Path

import pytest

from fastnn import kernels
from fastnn.kernels import cpu, ref

ROOM = Path(kernels.__file__).parent


def names(module):
    return {name for name, value in vars(module).items() if callable(value) and not name.startswith("_")}


@pytest.mark.parametrize("name", sorted(names(ref)))
def test_same_arguments(name):
    assert list(inspect.signature(getattr(cpu, name)).parameters) == list(
        inspect.signature(getattr(ref, name)).parameters
    )


def test_reference_has_every_op_of_cpu():
    assert names(ref) >= names(cpu)


def test_one_file_per_op_in_each_room():
    def ops(room):
        return {p.stem for p in (ROOM / room).glob("[a-z]*.py")}

    assert ops("ref") == ops("cpu")


def test_get_rejects_unknown_device():
    with pytest.raises(ValueError, match="device must be 'cpu', 'ref' or 'cuda', got 'tpu'"):
        kernels.get("tpu")


def test_cuda_without_gpu_says_why():
    if (problem := kernels.gpu_problem()) == "this version of fastnn has no GPU kernels yet":
        pytest.skip("there is a GPU")
    with pytest.raises(RuntimeError, match=problem[:20]):
        kernels.get("cuda")


def test_for_array_rejects_other_types():
    with pytest.raises(TypeError, match="expected an array of NumPy or CuPy, got list"):
        kernels.for_array([1.0])
