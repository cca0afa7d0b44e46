// A function of each element of contiguous arrays, 16 bytes of the output at a time.
//
// scalar: what is computed and written, float or double. input: the dtype of the first array of a forward kernel,
// which is scalar or, widened to float, half.
#include "_types.cuh"

constexpr int at_once = 16 / sizeof(scalar);

template <class T>
struct alignas(at_once * sizeof(T)) Pack {
    T values[at_once];
};

template <class T>
__device__ bool is_aligned(const T *array) {
    return reinterpret_cast<unsigned long long>(array) % sizeof(Pack<T>) == 0;
}

template <class T>
__device__ Pack<T> pack(const T *array, long long i) {
    return reinterpret_cast<const Pack<T> *>(array)[i];
}

template <class F, class... T>
__device__ Pack<scalar> of_each(F f, const Pack<T> &...x) {
    Pack<scalar> result;
#pragma unroll
    for (int i = 0; i < at_once; i++) result.values[i] = f(x.values[i]...);
    return result;
}

// out[i] = f(x[i]...). The output may be one of x: only the thread that writes an element reads it, before.
template <class F, class... T>
__device__ void elementwise(F f, long long n, scalar *out, const T *...x) {
    const long long thread = blockIdx.x * (long long)blockDim.x + threadIdx.x;
    const long long threads = gridDim.x * (long long)blockDim.x;
    long long done = 0;
    if (is_aligned(out) && (is_aligned(x) && ...)) {
        for (long long i = thread; i < n / at_once; i += threads)
            reinterpret_cast<Pack<scalar> *>(out)[i] = of_each(f, pack(x, i)...);
        done = n / at_once * at_once;
    }
    for (long long i = done + thread; i < n; i += threads) out[i] = f(x[i]...);
}
