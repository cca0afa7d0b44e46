"""Products on Intel's matrix unit, where there is one: as exact as multiply-adds, and special numbers spread alike."""

import os
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from fastnn.kernels.cpu import _amx, _amx_tile, _gemm, _matrices, _simd
from fastnn.kernels.cpu._gemm import BIAS, BIAS_RELU, RELU_GRADIENT, SIGMOID_GRADIENT, STORE, UPDATE

from .test_gemm import ENDINGS, arrays, check, edges, expected, product

needs_amx = pytest.mark.skipif(not _simd.has_amx(), reason="needs a CPU with AMX and bfloat16")
layouts = st.sampled_from(["rows", "columns"])


@needs_amx
@settings(max_examples=300, deadline=None)
@given(
    m=edges(_amx_tile.EDGE, _amx.BREADTH),
    n=edges(_amx_tile.EDGE, _amx.BREADTH, _amx.BLOCK_COLUMNS),
    depth=edges(2, _amx_tile.STEP, _amx.BLOCK_STEPS * _amx_tile.STEP),
    ending=st.sampled_from(ENDINGS),
    a_layout=layouts,
    b_layout=layouts,
    poison=st.booleans(),
    seed=st.integers(0, 2**32 - 1),
)
@example(100, 600, 1100, BIAS_RELU, "columns", "columns", False, 0)
@example(70, 300, 1100, UPDATE, "rows", "rows", True, 0)
@example(64, 256, 512, RELU_GRADIENT, "columns", "rows", True, 0)
@example(32, 32, 513, SIGMOID_GRADIENT, "rows", "columns", False, 0)
@example(40, 1100, 70, SIGMOID_GRADIENT, "columns", "rows", True, 0)
def test_every_size_layout_and_ending(m, n, depth, ending, a_layout, b_layout, poison, seed):
    check(m, n, depth, "float32", ending, a_layout, b_layout, seed, poison, amx=True)


def test_scratch_memory_of_networks_is_enough():
    assert _amx.AMX_SCRATCH_BYTES <= _gemm.SCRATCH_BYTES


@needs_amx
@pytest.mark.parametrize("shape", [(0, 3, 4), (3, 0, 4), (3, 4, 0)], ids=str)
def test_empty(shape):
    m, n, depth = shape
    c = np.full((m, n), np.nan, "float32")
    product(np.zeros((m, depth), "float32"), np.zeros((depth, n), "float32"), c, STORE, amx=True)
    np.testing.assert_array_equal(c, 0)


@needs_amx
def test_no_digit_of_a_number_is_lost():
    """Times 1 the three parts add up to what they were cut from, from 2^-102 on: below, parts are less than 2^-126."""
    rng = np.random.default_rng(0)
    bits = rng.integers(0, 1 << 32, (64, 32), dtype=np.uint32).view("float32")
    x = np.where(np.isfinite(bits) & (np.abs(bits) >= 2.0**-102), bits, np.float32(1 + 2**-23))
    x[0, :2] = np.finfo("float32").max, 2.0**-102 * (2 - 2**-23)
    one, out = np.eye(32, dtype="float32"), np.empty((64, 32), "float32")
    for a, b in ((x, one), (np.asfortranarray(x), np.asfortranarray(one))):
        product(a, b, out, STORE, amx=True)
        np.testing.assert_array_equal(out, x)
    product(one, x[:32], out[:32], STORE, amx=True)
    np.testing.assert_array_equal(out[:32], x[:32])


@needs_amx
def test_the_smallest_numbers_count_as_zero():
    x, one, out = np.full((16, 16), 2.0**-127, "float32"), np.eye(16, dtype="float32"), np.ones((16, 16), "float32")
    product(x, one, out, STORE, amx=True)
    np.testing.assert_array_equal(out, 0)


@needs_amx
@pytest.mark.parametrize("depth", [64, 784, 2000])
@pytest.mark.parametrize("kind", ["normal", "uniform"])  # uniform: all of one sign, so that errors could add up
def test_errors_are_those_of_multiply_adds(depth, kind):
    rng = np.random.default_rng(depth)
    draw = rng.standard_normal if kind == "normal" else rng.random
    a, b = draw((128, depth)).astype("float32"), draw((depth, 96)).astype("float32")
    want, size = expected(a, b, np.empty((128, 96)), STORE, None, 1.0)
    errors = {}
    for amx in (False, True):
        c = np.empty((128, 96), "float32")
        product(a, b, c, STORE, amx=amx)
        errors[amx] = np.sqrt(np.mean(((c - want) / size) ** 2))
    assert errors[True] < errors[False]


@needs_amx
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("where", ["a", "b", "both"])
def test_special_numbers_spread_as_in_numpy(where, value):
    a, b, _ = arrays(70, 300, 600, "float32")
    b[11] = 0  # infinity times 0
    if where != "b":
        a[3, 5] = a[40, 11] = a[69, 599] = value
    if where != "a":
        b[7, 33] = b[590, 299] = value
    c = np.empty((70, 300), "float32")
    product(a, b, c, STORE, amx=True)
    with np.errstate(all="ignore"):
        want = a.astype("float64") @ b.astype("float64")
    special = ~np.isfinite(want)
    assert special.any() and not special.all()
    np.testing.assert_array_equal(c[special], want[special].astype("float32"))
    np.testing.assert_allclose(c[~special], want[~special], rtol=0, atol=1e-4)


@needs_amx
@pytest.mark.parametrize("special", [False, True])
def test_the_same_for_any_number_of_threads(special):
    x, W, b = arrays(333, 555, 1111, "float32")
    if special:
        x[17, 3], W[20, 100] = np.inf, np.nan
    functions = _matrices.functions_for(np.dtype("float32"))
    results = []
    for threads in (1, 2, 3, 7, 64):
        out = np.full((333, 555), np.nan, "float32")
        functions.multiply(x, W, b, out, BIAS | functions.by_amx, threads)
        results.append(out)
    for other in results[1:]:
        np.testing.assert_array_equal(other, results[0])


@needs_amx
def test_large_products_use_it_and_others_do_not(monkeypatch):
    used = []
    monkeypatch.setattr(_matrices._Functions, "by_amx", property(lambda functions: used.append(functions) or 0))
    for m, n, depth, dtype, expected_use in [
        (256, 256, 256, "float32", True),
        (100, 50, 784, "float32", False),
        (256, 256, 256, "float64", True),  # is asked for, and there is none
        (5, 1000, 1000, "float32", False),
    ]:
        used.clear()
        a, b, _ = arrays(m, n, depth, dtype)
        _matrices.multiply(a, b, None, np.empty((m, n), dtype), STORE)
        assert bool(used) == expected_use, (m, n, depth)
    assert _amx.compiled_amx_product("d") is None


def test_it_can_be_left_alone():
    code = "from fastnn.kernels.cpu import _amx, _simd; print(_simd.has_amx(), _amx.compiled_amx_product('f'))"
    done = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, "FASTNN_AMX": "0"}, capture_output=True, text=True
    )
    assert done.stdout == "False None\n", done.stderr


@pytest.mark.parametrize(
    ("features", "vectors", "granted", "has"),
    [
        ("+avx512f,+amx-tile,+amx-bf16", _simd.AVX512, True, True),
        ("+avx512f,+amx-tile,+amx-bf16", _simd.AVX512, False, False),  # by the operating system
        ("+avx512f,+amx-tile,-amx-bf16", _simd.AVX512, True, False),
        ("+amx-tile,+amx-bf16", _simd.AVX2, True, False),
        ("", _simd.AVX512, True, False),
    ],
)
def test_who_has_it(monkeypatch, features, vectors, granted, has):
    libc = SimpleNamespace(syscall=lambda *_: 0 if granted else -1)
    monkeypatch.delenv("FASTNN_AMX", raising=False)
    for module, name, value in [
        (_simd, "_target", lambda: ("", "", features)),
        (_simd, "VECTORS", vectors),
        (_simd.ctypes, "CDLL", lambda _: libc),
        (_simd.sys, "platform", "linux"),
        (_simd.platform, "machine", lambda: "x86_64"),
    ]:
        monkeypatch.setattr(module, name, value)
    assert _simd.has_amx.__wrapped__() == has
