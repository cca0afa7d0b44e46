"""The matrix product under the kernels: every ending, layout and block edge; memory; threads; other CPUs."""

import ctypes
import os
import subprocess
import sys
import textwrap
from concurrent.futures import ThreadPoolExecutor

import numba
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from fastnn.kernels.cpu import _amx, _gemm, _matrices, _simd
from fastnn.kernels.cpu._gemm import (
    BIAS,
    BIAS_RELU,
    BIAS_SIGMOID,
    RELU_GRADIENT,
    SIGMOID_GRADIENT,
    STORE,
    UPDATE,
)

ENDINGS = [STORE, UPDATE, BIAS, BIAS_RELU, BIAS_SIGMOID, RELU_GRADIENT, SIGMOID_GRADIENT]
DTYPES = ["float32", "float64"]
LANES = {dtype: _simd.VECTORS.bytes // np.dtype(dtype).itemsize for dtype in DTYPES}
PANEL = {dtype: _gemm.TILE_VECTORS * LANES[dtype] for dtype in DTYPES}
GUARD = 0xA5  # as bytes of a float: no NaN, and nothing that arithmetic would leave behind


@numba.njit
def scratch_bytes(m, n, depth, a_row, a_col, b_row, b_col, alpha):
    return _gemm.scratch_bytes(m, n, depth, a_row, a_col, b_row, b_col, alpha)


def element_strides(a):
    return tuple(stride // a.itemsize for stride in a.strides)


def product(a, b, c, ending, v=None, alpha=1.0, amx=False):
    """Call a compiled product on arrays as they lie, with as much scratch memory as it asks for and no byte more."""
    (m, n), depth, dtype = c.shape, a.shape[1], c.dtype
    (a_row, a_col), (b_row, b_col), (c_row, _) = element_strides(a), element_strides(b), element_strides(c)
    need = scratch_bytes(m, n, depth, a_row, a_col, b_row, b_col, dtype.type(alpha))
    compiled = _gemm.compiled_product(dtype.char)
    if amx:
        need, compiled = _amx.AMX_SCRATCH_BYTES, _amx.compiled_amx_product(dtype.char)
    assert need <= _gemm.SCRATCH_BYTES <= 2 << 20
    scratch = np.full(need + 256, GUARD, np.uint8)
    v_row = element_strides(v)[0] if v is not None and v.ndim == 2 else 0
    real = ctypes.c_float if dtype == np.float32 else ctypes.c_double
    function = ctypes.CFUNCTYPE(None, *[ctypes.c_ssize_t] * 15, real)(compiled.address)
    addresses = [array.ctypes.data if array is not None else 0 for array in (a, b, c, v, scratch)]
    function(
        m, n, depth, addresses[0], a_row, a_col, addresses[1], b_row, b_col,
        addresses[2], c_row, ending, addresses[3], v_row, addresses[4], alpha,
    )  # fmt: skip
    assert np.all(scratch[need:] == GUARD), "wrote beyond its scratch memory"


def expected(a, b, c, ending, v, alpha):
    """The same in float64, and the size of the terms of each sum, which rounding errors are relative to."""
    a, b, c = (array.astype("float64") for array in (a, b, c))
    v = None if v is None else v.astype("float64")
    with np.errstate(all="ignore"):
        ab = a @ b
        size = np.abs(a) @ np.abs(b)
        if ending == STORE:
            return alpha * ab, abs(alpha) * size
        if ending == UPDATE:
            return c + alpha * ab, np.abs(c) + abs(alpha) * size
        if ending == BIAS:
            return ab + v, size + np.abs(v)
        if ending == BIAS_RELU:
            return np.maximum(ab + v, 0), size + np.abs(v)
        if ending == BIAS_SIGMOID:
            return 1 / (1 + np.exp(-(ab + v))), size + np.abs(v) + 4
        if ending == RELU_GRADIENT:
            return np.where(v <= 0, 0, ab), size
        return ab * v * (1 - v), size * np.abs(v) * (1 + np.abs(v))


def close(got, want, size, depth):
    """Within the bound of Higham, Accuracy and Stability of Numerical Algorithms, section 3.5."""
    np.testing.assert_array_equal(np.isnan(got), np.isnan(want))
    finite = np.isfinite(want)
    np.testing.assert_array_equal(got[~finite], want[~finite])
    error = np.abs(got[finite] - want[finite])
    bound = (depth + 8) * np.finfo(got.dtype).eps * np.nan_to_num(size[finite], nan=0)  # NaN: masked by a gradient
    assert np.all(error <= bound), f"off by {np.max(error - bound)}"


def lay_out(a, layout, rng):
    """`a` by rows, by columns or strided along both axes, at some distance from row to row."""
    gap = int(rng.integers(0, 4))
    if layout == "columns":
        return lay_out(a.T, "rows", rng).T
    step = 2 if layout == "strided" else 1
    big = np.full((a.shape[0], a.shape[1] * step + gap), np.nan, a.dtype)
    view = big[:, : a.shape[1] * step : step]
    view[...] = a
    return view


def guarded(shape, dtype, rng):
    """An output full of NaN amid guard bytes, also between its rows: (output, all of the memory)."""
    m, n = shape
    c_row = n + int(rng.integers(0, 5))
    memory = np.full((m * c_row + 64) * np.dtype(dtype).itemsize, GUARD, np.uint8)
    flat = memory.view(dtype)[16 : 16 + m * c_row].reshape(m, c_row)
    flat[:, :n] = np.nan
    return flat[:, :n], memory


def edges(*blocks):
    """Sizes from 1 to beyond the given ones, most of them at their edges."""
    near = [max(1, block * times + offset) for block in blocks for times in (1, 2) for offset in (-1, 0, 1)]
    return st.one_of(st.integers(1, 40), st.sampled_from(near))


def check(m, n, depth, dtype, ending, a_layout, b_layout, seed, poison=False, amx=False):
    rng = np.random.default_rng(seed)
    a, b = rng.standard_normal((m, depth)), rng.standard_normal((depth, n))
    if poison:
        for array in (a, b):
            array[rng.random(array.shape) < 0.01] = rng.choice([np.nan, np.inf, -np.inf])
    a, b = lay_out(a.astype(dtype), a_layout, rng), lay_out(b.astype(dtype), b_layout, rng)
    alpha = 1.0 if amx or ending not in (STORE, UPDATE) else -0.25
    c, memory = guarded((m, n), dtype, rng)
    if ending == UPDATE:
        c[...] = rng.standard_normal((m, n))
    v = None
    if ending in (BIAS, BIAS_RELU, BIAS_SIGMOID):
        v = rng.standard_normal(n).astype(dtype)
    elif ending in (RELU_GRADIENT, SIGMOID_GRADIENT):
        v = lay_out(rng.standard_normal((m, n)).astype(dtype), "rows", rng)
    want, size = expected(a, b, c, ending, v, alpha)
    outside = np.ones(memory.size, bool)
    start, c_row = c.ctypes.data - memory.ctypes.data, c.strides[0]
    for i in range(m):
        outside[start + i * c_row : start + i * c_row + n * c.itemsize] = False
    inputs = [a.copy(), b.copy()]
    product(a, b, c, ending, v, alpha, amx)
    close(c, want, size, depth)
    assert np.all(memory[outside] == GUARD), "wrote outside of C"
    np.testing.assert_array_equal(a, inputs[0])
    np.testing.assert_array_equal(b, inputs[1])


layouts = st.sampled_from(["rows", "columns", "strided"])


@settings(max_examples=300, deadline=None)
@given(
    m=edges(_gemm.TILE_ROWS, _gemm.PACK_B_ROWS, _gemm.BLOCK_A_ROWS),
    n=edges(PANEL["float64"], PANEL["float32"], _gemm.TRANSPOSE_A_COLUMNS, _gemm.BLOCK_B_ROW_BYTES // 4),
    depth=edges(16, _gemm.TILE_DEPTH, 2 * _gemm.TILE_DEPTH),
    dtype=st.sampled_from(DTYPES),
    ending=st.sampled_from(ENDINGS),
    a_layout=layouts,
    b_layout=layouts,
    poison=st.booleans(),
    seed=st.integers(0, 2**32 - 1),
)
@example(1, 1, 1, "float32", STORE, "rows", "rows", False, 0)
@example(300, 1100, 1100, "float32", BIAS_RELU, "columns", "columns", False, 0)
@example(300, 1100, 1100, "float64", UPDATE, "rows", "rows", True, 0)
@example(71, 50, 600, "float32", STORE, "columns", "rows", True, 0)  # by columns of C
@example(71, 50, 600, "float64", STORE, "columns", "rows", False, 0)
@example(1, 50, 784, "float32", BIAS_RELU, "rows", "rows", True, 0)  # in aligned vectors
@example(1, 100, 1101, "float64", UPDATE, "columns", "rows", False, 0)
@example(10, 50, 784, "float32", BIAS_RELU, "rows", "rows", True, 0)  # the last columns by dots
@example(219, 50, 1100, "float64", UPDATE, "rows", "columns", False, 0)
@example(410, 50, 600, "float32", STORE, "rows", "rows", True, 0)  # where a narrow B is copied
@example(7, 1, 2048, "float32", BIAS_SIGMOID, "rows", "strided", False, 0)
@example(130, 1057, 300, "float32", SIGMOID_GRADIENT, "rows", "rows", True, 0)  # in a block of their own
def test_every_size_layout_and_ending(m, n, depth, dtype, ending, a_layout, b_layout, poison, seed):
    check(m, n, depth, dtype, ending, a_layout, b_layout, seed, poison)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("ending", ENDINGS)
def test_every_tile(dtype, ending):
    for rows in range(1, _gemm.TILE_ROWS + 1):
        for columns in range(1, PANEL[dtype] + 2):
            check(rows, columns, 9, dtype, ending, "rows", "rows", rows * columns)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("depth", [_gemm.ROW_TILE_FROM // 520, 1101])
def test_a_single_row_is_summed_in_one_order_wherever_b_lies(dtype, depth):
    """By whole columns and by a share of them, from every place in a cache line."""
    rng, columns, lanes = np.random.default_rng(0), 130, LANES[dtype]
    a, b = rng.standard_normal((1, depth)).astype(dtype), rng.standard_normal((depth, columns)).astype(dtype)
    wanted = np.empty((1, columns), dtype)
    product(a, b, wanted, STORE)
    close(wanted, *expected(a, b, wanted, STORE, None, 1.0), depth)
    for place in range(lanes):
        moved = np.full(b.size + 2 * lanes, np.nan, dtype)[place : place + b.size].reshape(b.shape)
        moved[...] = b
        for first in range(0, columns, lanes):
            got = np.empty((1, columns - first), dtype)
            product(a, moved[:, first:], got, STORE)
            np.testing.assert_array_equal(got, wanted[:, first:])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("ending", [UPDATE, BIAS_RELU])
def test_every_number_of_columns_by_dots(dtype, ending):
    """Few columns that fill no vector, from the shortest sums to the longest; and one column, one element beyond."""
    lanes = LANES[dtype]
    for left in range(1, lanes // 4 + 2):
        for depth in (_gemm.DOTS_FROM * lanes - 1, _gemm.DOTS_FROM * lanes, 333, _gemm.DOTS_TO, _gemm.DOTS_TO + 1):
            for rows in (2, 3, 9):
                check(rows, left + lanes * (rows % 2), depth, dtype, ending, "rows", "rows", depth, poison=rows == 9)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("layout", ["rows", "columns"])
def test_strides_that_are_powers_of_two(dtype, layout):
    rng = np.random.default_rng(0)
    a, b = rng.standard_normal((1024, 1024)).astype(dtype)[:150], rng.standard_normal((1024, 256)).astype(dtype)
    a = a if layout == "rows" else np.asfortranarray(a)
    c = np.full((150, 256), np.nan, dtype)
    product(a, b, c, STORE)
    close(c, *expected(a, b, c, STORE, None, 1.0), 1024)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("columns", [20, 50])
def test_few_columns_of_a_matrix_whose_rows_lie_a_power_of_two_apart(columns, dtype):
    """By columns of C, with columns of B copied, in as much scratch memory as was asked for."""
    rng = np.random.default_rng(0)
    a, b = rng.standard_normal((100, 400)).astype(dtype).T, rng.standard_normal((100, 512)).astype(dtype)[:, :columns]
    c = np.full((400, columns), np.nan, dtype)
    product(a, b, c, STORE)
    close(c, *expected(a, b, c, STORE, None, 1.0), 100)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(0, 3, 4), (3, 0, 4), (3, 4, 0), (0, 0, 0)], ids=str)
def test_empty(shape, dtype):
    m, n, depth = shape
    bias = np.arange(n, dtype=dtype)
    c = np.full((m, n), np.nan, dtype)
    a, b = np.zeros((m, depth), dtype), np.zeros((depth, n), dtype)
    product(a, b, c, BIAS, bias)
    np.testing.assert_array_equal(c, np.broadcast_to(bias, (m, n)))
    _matrices.multiply(a, b, None, c, STORE)
    np.testing.assert_array_equal(c, 0)


@pytest.mark.parametrize("dtype", DTYPES)
def test_relu_lets_nan_through_and_its_gradient_too(dtype):
    x = np.array([[np.nan, -1.0, 2.0, np.inf, -np.inf]], dtype)
    one, bias, out = np.ones((1, 1), dtype), np.zeros(5, dtype), np.empty((1, 5), dtype)
    product(one, x, out, BIAS_RELU, bias)
    np.testing.assert_array_equal(out, np.array([[np.nan, 0, 2, np.inf, 0]], dtype))
    product(one, np.full((1, 5), 3, dtype), out, RELU_GRADIENT, x)
    np.testing.assert_array_equal(out, np.array([[3, 0, 3, 3, 0]], dtype))


def arrays(m, n, depth, dtype, seed=0):
    rng = np.random.default_rng(seed)
    return [rng.standard_normal(shape).astype(dtype) for shape in ((m, depth), (depth, n), (n,))]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    "shape",
    [
        (1, 1000, 500),
        (5, 7, 20_000),
        (64, 10, 700),
        (100, 50, 784),
        (3, 1000, 200),
        (128, 512, 784),  # by halves of the depth
        (13, 1010, 300),  # the last columns by dots
        (333, 555, 1111),
        (_gemm.BLOCK_A_ROWS + 1, 40, 300),  # a last block of one or two rows would be summed in another order
        (_gemm.BLOCK_A_ROWS + 2, 40, 300),
    ],
    ids=str,
)
def test_the_same_for_any_number_of_threads(shape, dtype):
    m, n, depth = shape
    x, W, b = arrays(m, n, depth, dtype)
    functions = _matrices.functions_for(np.dtype(dtype))
    serial, other = np.full((m, n), np.nan, dtype), np.full((m, n), np.nan, dtype)
    for by_amx in {0, functions.by_amx}:
        functions.multiply(x, W, b, serial, BIAS | by_amx, 1)
        for threads in (2, 3, 7, 64):
            functions.multiply(x, W, b, other, BIAS | by_amx, threads)
            np.testing.assert_array_equal(serial, other)
            other[...] = np.nan


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("columns", [300, 50])  # 50: by columns of dW, where shares have enough rows
def test_column_sums_are_the_same_for_any_number_of_threads(columns, dtype):
    x, dout, _ = arrays(90, columns, 200, dtype)
    x = np.ascontiguousarray(x.T)  # (200, 90)
    form = STORE | _matrices.TRANSPOSE_A | _matrices.COLUMN_SUMS
    functions = _matrices.functions_for(np.dtype(dtype))
    results = []
    for threads in (1, 2, 5, 40):
        dW, db = np.full((90, columns), np.nan, dtype), np.full(columns, np.nan, dtype)
        functions.multiply(x, dout, db, dW, form, threads)
        np.testing.assert_allclose(db, dout.sum(0, dtype="float64"), atol=1e-4 if dtype == "float32" else 1e-12)
        results.append((dW, db))
    for dW, db in results[1:]:
        np.testing.assert_array_equal(dW, results[0][0])
        np.testing.assert_array_equal(db, results[0][1])


def test_several_python_threads_at_once():
    shapes = (30, 10, 20), (130, 600, 300), (257, 65, 999)
    jobs = [arrays(*shape, dtype, seed) for dtype in DTYPES for seed, shape in enumerate(shapes)]

    def run(job):
        out = np.full((job[0].shape[0], job[1].shape[1]), np.nan, job[0].dtype)
        _matrices.multiply(*job, out, BIAS)
        return out

    serial = [run(job) for job in jobs]
    with ThreadPoolExecutor(4) as pool:
        for want, got in zip(serial * 10, pool.map(run, jobs * 10), strict=True):
            np.testing.assert_array_equal(want, got)


@pytest.mark.parametrize("ending", [STORE, BIAS_RELU])
def test_an_output_without_contiguous_rows(ending):
    x, W, b = arrays(37, 41, 29, "float32")
    for out in np.full((41, 37), np.nan, "float32").T, np.full((74, 82), np.nan, "float32")[::2, ::2]:
        _matrices.multiply(x, W, b, out, ending)
        close(out, *expected(x, W, out, ending, b, 1.0), 29)


def test_what_cannot_be_multiplied_is_said():
    x, W, b = arrays(3, 4, 5, "float32")
    with pytest.raises(TypeError, match="float32 or float64, got int64"):
        _matrices.multiply(x.astype("int64"), W, b, np.empty((3, 4), "float32"), BIAS)
    with pytest.raises(TypeError, match="one dtype, got float32, float64"):
        _matrices.multiply(x, W.astype("float64"), b, np.empty((3, 4), "float32"), BIAS)


def run_script(script, **environment):
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", textwrap.dedent(script)],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=600,
    )


@pytest.mark.skipif(sys.platform != "linux", reason="protects memory pages with libc's mprotect")
def test_reads_nothing_beyond_its_inputs():
    """Every array ends where an unreadable page begins, so that one element too far kills the process."""
    script = """
        import ctypes, mmap
        import numpy as np
        from fastnn.kernels.cpu import affine

        libc, keep = ctypes.CDLL(None, use_errno=True), []

        def at_the_end(a):
            size = -(-max(a.nbytes, 1) // mmap.PAGESIZE) * mmap.PAGESIZE
            pages = mmap.mmap(-1, size + mmap.PAGESIZE)
            keep.append(pages)
            start = ctypes.addressof(ctypes.c_char.from_buffer(pages))
            assert libc.mprotect(ctypes.c_void_p(start + size), mmap.PAGESIZE, 0) == 0
            view = np.frombuffer(pages, a.dtype, a.size, size - a.nbytes).reshape(a.shape)
            view[...] = a
            return view

        for dtype in ("float32", "float64"):
            sizes = (1, 1, 1), (2, 3, 5), (3, 17, 4), (13, 33, 31), (30, 10, 2), (29, 47, 130), (131, 519, 77)
            for m, n, d in (*sizes, (1, 40, 999)):
                rng = np.random.default_rng(m)
                x, W, b, dout = (rng.standard_normal(s).astype(dtype) for s in ((m, d), (d, n), n, (m, n)))
                want = x @ W + b, dout @ W.T, x.T @ dout, dout.sum(0)
                x, W, WT, b, dout = (at_the_end(a) for a in (x, W, W.T.copy(), b, dout))
                out, dx, dW, db = (at_the_end(np.full(s, np.nan, dtype)) for s in ((m, n), (m, d), (d, n), n))
                for weights in (W, WT.T):
                    affine.affine_sigmoid_forward(x, weights, b, out)
                    affine.affine_relu_forward(x, weights, b, out)
                    affine.affine_forward(x, weights, b, out)
                    affine.affine_backward_input(dout, weights, dx)
                    affine.affine_backward_params(x, dout, dW, db)
                    for got, right in zip((out, dx, dW, db), want):
                        np.testing.assert_allclose(got, right, rtol=1e-3, atol=1e-3)
        print("fine")
    """
    done = run_script(script)
    assert done.stdout == "fine\n", done.stderr


SMALL_CHECK = """
    import numpy as np
    from fastnn.kernels.cpu import _gemm, _simd, affine

    for dtype in ("float32", "float64"):
        for m, n, d in ((1, 1, 1), (7, 3, 5), (30, 10, 2), (45, 67, 530), (150, 300, 260)):
            rng = np.random.default_rng(m)
            x, W, b, dout = (rng.standard_normal(s).astype(dtype) for s in ((m, d), (d, n), n, (m, n)))
            out, dx, dW, db = (np.full(s, np.nan, dtype) for s in ((m, n), (m, d), (d, n), n))
            affine.affine_forward(x, W, b, out)
            affine.affine_backward_input(dout, W, dx)
            affine.affine_backward_params(x, dout, dW, db)
            for got, right in zip((out, dx, dW, db), (x @ W + b, dout @ W.T, x.T @ dout, dout.sum(0))):
                np.testing.assert_allclose(got, right, rtol=1e-3, atol=1e-3)
    print(_simd.VECTORS.name, _gemm.compiled_product("f")._cache_hits)
"""


@pytest.mark.skipif(not _simd.VECTORS.name.startswith("avx"), reason="names x86 CPUs")
@pytest.mark.parametrize(("cpu", "vectors"), [("haswell", "avx2"), ("x86-64", "generic"), ("generic", "generic")])
def test_other_cpus(cpu, vectors):
    done = run_script(SMALL_CHECK, NUMBA_CPU_NAME=cpu, NUMBA_CPU_FEATURES="")
    assert done.stdout.startswith(vectors), done.stderr


def test_a_second_process_compiles_nothing(tmp_path):
    for hits in (0, 1):
        done = run_script(SMALL_CHECK, FASTNN_CACHE_DIR=str(tmp_path))
        assert done.stdout == f"{_simd.VECTORS.name} {hits}\n", done.stderr


def test_vectors_of_a_target():
    x86, arm = "x86_64-unknown-linux-gnu", "aarch64-unknown-linux-gnu"
    assert _simd.detect(x86, "rocketlake", "+avx,+avx2,+fma,+avx512f") is _simd.AVX512
    assert _simd.detect(x86, "znver3", "+avx,+avx2,+fma,-avx512f") is _simd.AVX2
    assert _simd.detect(x86, "sandybridge", "+avx,-avx2,-fma") is _simd.GENERIC
    assert _simd.detect(x86, "znver4", "") is _simd.AVX512
    assert _simd.detect(x86, "haswell", "") is _simd.AVX2
    assert _simd.detect(x86, "skylake", "") is _simd.AVX2
    assert _simd.detect(x86, "skylake-avx512", "") is _simd.AVX512
    assert _simd.detect(x86, "generic", "") is _simd.GENERIC
    assert _simd.detect(arm, "generic", "") is _simd.NEON
