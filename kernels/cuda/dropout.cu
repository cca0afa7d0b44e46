// The masks of kernels/ref/dropout.py, to the bit.
#include "_elementwise.cuh"

__device__ inline unsigned mix(unsigned h) {
    h = (h ^ h >> 16) * 0x21F0AAADu;
    h = (h ^ h >> 15) * 0x735A2D97u;
    return h ^ h >> 15;
}

// seed: where it is read; or null, and it is high · 2^32 + low.
extern "C" __global__ void dropout(const scalar *x, const long long *seed, unsigned low, unsigned high, unsigned least,
                                   scalar *out, long long n) {
    if (seed) {
        low = (unsigned)*seed;
        high = (unsigned)(*seed >> 32);
    }
    const unsigned first = mix(low), second = mix(first ^ high);
    const auto drop = [=](scalar a, long long i) {
        return a * scalar(mix(mix((unsigned)i + first) ^ second) >= least);
    };
    const long long thread = blockIdx.x * (long long)blockDim.x + threadIdx.x,
                    threads = gridDim.x * (long long)blockDim.x;
    long long done = 0;
    if (is_aligned(out) && is_aligned(x)) {
        for (long long i = thread; i < n / at_once; i += threads) {
            Pack<scalar> a = pack(x, i);
#pragma unroll
            for (int k = 0; k < at_once; k++) a.values[k] = drop(a.values[k], i * at_once + k);
            reinterpret_cast<Pack<scalar> *>(out)[i] = a;
        }
        done = n / at_once * at_once;
    }
    for (long long i = done + thread; i < n; i += threads) out[i] = drop(x[i], i);
}
