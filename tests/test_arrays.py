"""Arrays of other libraries, and arrays that may not be written: read in place where that can be, else in one line."""

import gc
import weakref

import numpy as np
import pytest
from numpy.testing import assert_array_equal

import fastnn
from fastnn._arrays import Outputs, as_array, as_floats, as_labels, as_parameter
from fastnn.layers import Affine, Flatten, Gelu, SoftmaxWithLoss
from fastnn.models import TwoLayerNet
from fastnn.optimizer import SGD
from fastnn.trainer import Trainer
from tests.layouts import LAYOUTS


def address(a):
    return a.__array_interface__["data"][0]


class OnlyDLPack:
    """An array of a library that knows nothing of NumPy."""

    def __init__(self, array):
        self._array = array

    def __dlpack__(self, **options):
        return self._array.__dlpack__(**options)

    def __dlpack_device__(self):
        return self._array.__dlpack_device__()


class Elsewhere(OnlyDLPack):
    def __dlpack__(self, **options):
        raise BufferError("on a\ndevice")


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_read_only_memory_is_read_in_place(dtype, rng):
    x = LAYOUTS["read-only"](rng.standard_normal((3, 4)).astype(dtype))
    alias = as_floats(x, "layer")
    assert address(alias) == address(x)
    assert alias.flags.carray and alias.dtype is np.dtype(dtype)
    assert_array_equal(alias, x)
    assert not x.flags.writeable


def test_an_alias_keeps_its_memory(rng):
    x = LAYOUTS["read-only"](rng.standard_normal((3, 4)))
    memory, copy = weakref.ref(x), x.copy()
    alias = as_floats(x, "layer")
    del x
    gc.collect()
    assert memory() is not None
    assert_array_equal(alias, copy)
    del alias
    assert memory() is None


@pytest.mark.parametrize("layout", [layout for layout in LAYOUTS if layout not in ("contiguous", "read-only")])
def test_other_layouts_are_copied_into_the_kernels_form(layout, rng):
    x = LAYOUTS[layout](rng.standard_normal((3, 4)))
    array = as_floats(x, "layer")
    assert array.flags.carray and array.dtype is np.dtype("float64")
    assert_array_equal(array, x)


@pytest.mark.parametrize("layout", [layout for layout in LAYOUTS if layout != "list"])
def test_float16_is_widened_to_the_same_numbers(layout):
    x = LAYOUTS[layout](np.arange(2**16, dtype=np.uint16).view("float16").reshape(256, 256))
    array = as_floats(x, "layer")
    assert array.flags.carray and array.dtype is np.dtype("float32")
    assert_array_equal(array, np.asarray(x).astype("float32"))
    assert_array_equal(np.signbit(array), np.signbit(x))
    W = as_parameter(x, "layer", "W", 2)
    assert W.flags.carray and W.dtype is np.dtype("float32")
    assert_array_equal(W, array)


@pytest.mark.parametrize("shape", [(), (0,), (0, 3), (1, 1), (2, 3, 4)])
def test_read_only_of_any_shape(shape):
    assert as_floats(LAYOUTS["read-only"](np.ones(shape)), "layer").shape == shape


def test_layers_give_no_leave_to_write_into_what_is_read_only(rng):
    x = LAYOUTS["read-only"](rng.standard_normal((3, 2, 2)))
    flatten = Flatten()
    out = flatten.forward(x)
    assert address(out) == address(x) and not out.flags.writeable
    assert not flatten.backward(out).flags.writeable
    with pytest.raises(ValueError, match="out must be writeable"):
        Gelu().forward(rng.standard_normal(x.shape), out=x)
    W = LAYOUTS["read-only"](rng.standard_normal((4, 2)))
    layer = Affine(W, np.zeros(2))
    layer.W[...] = 0  # a copy
    assert W.any()
    shared = rng.standard_normal((4, 2))
    assert Affine(shared, np.zeros(2)).W is shared


def test_only_dlpack(rng):
    x = rng.standard_normal((3, 4)).astype("float32")
    assert address(as_floats(OnlyDLPack(x), "layer")) == address(x)
    assert_array_equal(as_labels(OnlyDLPack(np.array([1, 0, 1])), x, "layer"), [1, 0, 1])
    with pytest.raises(TypeError, match=r"^layer: x must be an array that NumPy can read, got Elsewhere: on a device"):
        as_floats(Elsewhere(x), "layer")


def test_errors_are_one_line_of_ours():
    with pytest.raises(ValueError, match=r"^layer: x must be an array, got nested sequences of unequal lengths$"):
        as_array([[1], [2, 3]], "layer", "x")
    with pytest.raises(TypeError, match=r"^layer: x must be an array of numbers, got list of Python objects$"):
        as_array([None], "layer", "x")


def test_torch(rng):
    torch = pytest.importorskip("torch")
    x = torch.from_numpy(rng.standard_normal((3, 4)).astype("float32"))
    assert address(as_floats(x, "layer")) == x.data_ptr()
    t = torch.tensor([1, 0, 1])
    assert address(as_labels(t, np.zeros((3, 2)), "layer")) == t.data_ptr()
    message = r"^layer: x must not require a gradient, got such a Tensor; pass \.detach\(\)$"
    with pytest.raises(TypeError, match=message):
        as_floats(x.requires_grad_(), "layer")
    with pytest.raises(TypeError, match=r"^layer: x must be an array that NumPy can read, got Tensor: .*BFloat16"):
        as_floats(x.detach().to(torch.bfloat16), "layer")
    weights = torch.ones(4, 2)
    assert address(Affine(weights, torch.zeros(2)).W) == weights.data_ptr()
    model = TwoLayerNet(4, 5, 2, rng=0)
    Trainer(model, SGD()).fit(x.detach(), t, 1, 3, verbose=False)
    assert_array_equal(fastnn.compile(model)(x.detach()), fastnn.compile(model)(x.detach().numpy()))
    with pytest.raises(TypeError, match=r"^Trainer\.fit: x must not require a gradient"):
        Trainer(model, SGD()).fit(x, t, 1, 3, verbose=False)


def test_jax(rng):
    jnp = pytest.importorskip("jax.numpy")
    x, t = jnp.asarray(rng.standard_normal((3, 4)), "float32"), jnp.array([1, 0, 1])
    before = np.array(x)
    alias = as_floats(x, "layer")
    assert address(alias) == x.unsafe_buffer_pointer()
    assert alias.flags.carray
    layer, loss = Affine(jnp.ones((4, 2)), jnp.zeros(2)), SoftmaxWithLoss()
    loss.forward(layer.forward(x), t)
    layer.backward(loss.backward())
    layer.W[...] -= layer.dW
    assert_array_equal(np.array(x), before)
    with pytest.raises(TypeError, match=r"^layer: x must hold real numbers of at most 64 bits, got dtype bfloat16"):
        as_floats(x.astype("bfloat16"), "layer")


def test_pandas(rng):
    pandas = pytest.importorskip("pandas")
    values = rng.standard_normal((3, 4))
    table = pandas.DataFrame(values, columns=list("abcd"))
    assert_array_equal(as_floats(table, "layer"), values)
    column = table["a"]
    assert address(as_floats(column, "layer")) == address(column.to_numpy())
    assert_array_equal(as_labels(pandas.Series([1, 0, 1]), values, "layer"), [1, 0, 1])
    with pytest.raises(TypeError, match=r"^layer: x must be an array of numbers, got DataFrame of Python objects$"):
        as_floats(table.assign(e=["a", "b", "c"]), "layer")


def test_parameters_may_share_memory_but_for_read_only_ones(rng):
    W = rng.standard_normal((3, 4))
    assert as_parameter(W, "layer", "W", 2) is W
    assert as_parameter(W.T, "layer", "W", 2).base is W
    assert not np.shares_memory(as_parameter(LAYOUTS["read-only"](W), "layer", "W", 2), W)


def test_large_outputs_begin_with_a_cache_line_and_are_recycled_once_nobody_holds_them():
    outputs, like = Outputs(), np.empty((2, 300_001), "float32")
    first = outputs.empty_like(like)
    assert (
        first.ctypes.data % 64 == 0 and first.flags.carray and first.shape == like.shape and first.dtype == like.dtype
    )
    view, where = first[1:, ::2], first.ctypes.data
    del first
    assert outputs.empty_like(like).ctypes.data != where, "a view of it is held"
    consumer = np.from_dlpack(view)
    del view
    assert outputs.empty_like(like).ctypes.data != where, "a consumer of its memory is held"
    del consumer
    assert outputs.spare().ctypes.data == where


def test_large_outputs_outlive_their_layer():
    outputs = Outputs()
    held = outputs.empty_like(np.empty((2, 300_001), "float32"))
    held[...] = 7
    del outputs
    gc.collect()
    assert (held == 7).all()
