"""The simulated GPU finds what is wrong with kernels, and its arrays are as strict as CuPy's. With --device cuda."""

import numpy as np
import pytest
from numpy.testing import assert_array_equal

KERNELS = r"""
extern "C" __global__ void sum_of_block(const float *x, float *out) {
    extern __shared__ float part[];
    part[threadIdx.x] = x[blockIdx.x * blockDim.x + threadIdx.x];
    for (int half = blockDim.x / 2; half; half /= 2) {
        __syncthreads();
        if (threadIdx.x < half) part[threadIdx.x] += part[threadIdx.x + half];
    }
    if (threadIdx.x == 0) out[blockIdx.x] = part[0];
}
extern "C" __global__ void sum_of_warp(const float *x, float *out, long long *lanes) {
    float sum = x[threadIdx.x];
    for (int lane = 16; lane; lane /= 2) sum += __shfl_xor_sync(~0u, sum, lane);
    const unsigned positive = __ballot_sync(~0u, x[threadIdx.x] > 0);
    if (threadIdx.x == 0) *out = sum;
    if (threadIdx.x == 0) *lanes = positive;
}
extern "C" __global__ void reversed_without_barrier(const float *x, float *out) {
    __shared__ float copy[64];
    copy[threadIdx.x] = x[threadIdx.x];
    out[threadIdx.x] = copy[63 - threadIdx.x];
}
extern "C" __global__ void barrier_for_some(float *out) {
    if (threadIdx.x < 16) __syncthreads();
    out[threadIdx.x] = 1;
}
extern "C" __global__ void two_barriers(float *out) {
    if (threadIdx.x < 16)
        __syncthreads();
    else
        __syncthreads();
    out[threadIdx.x] = 1;
}
extern "C" __global__ void lanes_missing(float *out) {
    if (threadIdx.x < 16) out[threadIdx.x] = __shfl_xor_sync(~0u, 1.0f, 1);
}
extern "C" __global__ void not_in_mask(float *out) {
    out[threadIdx.x] = __shfl_xor_sync(0xffffu, 1.0f, 1);
}
extern "C" __global__ void options(const int *x, double alpha, float *out) { out[0] = x[0] * alpha; }
"""

GRID = r"""
extern "C" __global__ void rotate(const float *x, float *out, float *scratch, int with_barrier) {
    const int i = blockIdx.x * blockDim.x + threadIdx.x, n = gridDim.x * blockDim.x;
    scratch[i] = x[i];
    if (with_barrier) cooperative_groups::this_grid().sync();
    out[i] = scratch[(i + n - 40) % n];
}
"""


@pytest.fixture(scope="module")
def cupy(device, xp):
    if not hasattr(xp, "counts"):
        pytest.skip("a real GPU" if device == "cuda" else "runs with --device cuda")
    return xp


@pytest.fixture(scope="module")
def module(cupy):
    return cupy.RawModule(code=KERNELS)


def test_barriers_and_shared_memory(cupy, module):
    x = np.arange(192, dtype="float32")
    out = cupy.empty(3, "float32")
    module.get_function("sum_of_block")((3,), (64,), (cupy.asarray(x), out), shared_mem=64 * 4)
    assert_array_equal(out.get(), x.reshape(3, 64).sum(axis=1))


def test_warp_functions(cupy, module):
    x = np.arange(32, dtype="float32") - 3
    out, lanes = cupy.empty(1, "float32"), cupy.empty(1, "int64")
    module.get_function("sum_of_warp")((1,), (32,), (cupy.asarray(x), out, lanes))
    assert (out.item(), lanes.item()) == (x.sum(), sum(1 << i for i in range(4, 32)))


def test_a_missing_barrier_shows(cupy, module):
    out = cupy.zeros(64, "float32")
    module.get_function("reversed_without_barrier")((1,), (64,), (cupy.ones(64, "float32"), out))
    assert not np.all(out.get() == 1)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("barrier_for_some", "16 threads have ended"),
        ("two_barriers", "others wait in another line"),
        ("lanes_missing", "deadlock"),
        ("not_in_mask", "the calling lane is not in its own mask, in block (0, 0, 0), thread (16, 0, 0)"),
    ],
)
def test_what_hardware_might_hang_on_is_an_error(cupy, module, name, message):
    for _ in range(2):  # also after a failure
        with pytest.raises(RuntimeError, match=message.replace("(", "[(]").replace(")", "[)]")):
            module.get_function(name)((1,), (32,), (cupy.empty(32, "float32"),))


def test_arguments_must_be_those_of_the_kernel(cupy, module):
    options, out = module.get_function("options"), cupy.empty(1, "float32")
    options((1,), (1,), (cupy.ones(1, "int32"), 2.5, out))
    assert out.item() == 2.5
    for wrong in [(cupy.ones(1, "int64"), 2.5, out), (cupy.ones(1, "int32"), 2, out), (cupy.ones(1, "int32"), 2.5)]:
        with pytest.raises(TypeError, match=r"options: (argument|takes 3)"):
            options((1,), (1,), wrong)
    with pytest.raises(RuntimeError, match="more than 1024 threads"):
        module.get_function("barrier_for_some")((1,), (2048,), (out,))
    with pytest.raises(RuntimeError, match="grid is empty"):
        module.get_function("barrier_for_some")((0,), (32,), (out,))


def test_grid_barrier(cupy):
    code = cupy.RawModule(code=GRID, enable_cooperative_groups=True)
    x, out, scratch = cupy.asarray(np.arange(128, dtype="float32")), *cupy.full((2, 128), np.nan, "float32")
    for with_barrier in (0, 1):
        code.get_function("rotate")((4,), (32,), (x, out, scratch, np.int32(with_barrier)))
        assert np.array_equal(out.get(), np.roll(x.get(), 40)) == bool(with_barrier)
        scratch.fill(np.nan)
    with pytest.raises(RuntimeError, match="not cooperative"):
        cupy.RawModule(code=GRID).get_function("rotate")((4,), (32,), (x, out, scratch, np.int32(1)))


def test_arrays_become_numpy_arrays_only_when_asked(cupy):
    a, b = cupy.ones(3), np.ones(3)
    for mix in (lambda: np.asarray(a), lambda: a + b, lambda: b + a, lambda: a.__iadd__(b), lambda: cupy.exp(b)):
        with pytest.raises(TypeError):
            mix()
    with pytest.raises(TypeError, match="Unsupported type"):
        a[...] = b
    before = cupy.counts["to_host"]
    assert float((a + 1).sum()) == 6
    assert cupy.counts["to_host"] == before + 1
    assert_array_equal(cupy.asnumpy(a[1:]), [1, 1])
