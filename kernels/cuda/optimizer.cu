// One step of many parameters in one launch. The table, and who calls: optimizer.py.
//
// Compiled without fused multiply-adds: so the rules give the bits of NumPy, and no slower, since they wait for memory.
#include "_elementwise.cuh"
#include "_reduce.cuh"
#include "_rules.cuh"

constexpr int threads = 256, chunk_size = 4096;

// A parameter, as a row of the table has it: addresses (0 where there is no such state), its number of elements, and
// how many chunks those before it have.
struct Parameter {
    long long param, grad, first, second, size, chunks_before;
};

struct Chunk {
    scalar *param, *grad, *first, *second;
    int size, packs;  // elements; groups of them that are read at once

    __device__ Chunk(const Parameter *table, const int *row_of, long long number) {
        const Parameter row = table[row_of[number]];
        const long long begin = (number - row.chunks_before) * chunk_size;
        param = (scalar *)row.param + begin;
        grad = (scalar *)row.grad + begin;
        first = (scalar *)row.first + begin;
        second = (scalar *)row.second + begin;
        size = (int)min((long long)chunk_size, row.size - begin);
        const bool aligned = (row.param | row.grad | row.first | row.second) % sizeof(Pack<scalar>) == 0;
        packs = aligned ? size / at_once : 0;
    }
};

// The factor that brings all gradients to the norm, always summed in the same order: each block sums some chunks, and
// the one that ends last what the blocks have found. It stays on the device.
extern "C" __global__ void __launch_bounds__(256)
    clipping_rate(const long long *table, const int *row_of, long long chunks, double max_norm, double *sums,
                  int *ended, scalar *rate) {
    __shared__ bool last;
    double sum = 0;
    for (long long number = blockIdx.x; number < chunks; number += gridDim.x) {
        const Chunk chunk((const Parameter *)table, row_of, number);
        for (int i = threadIdx.x; i < chunk.packs; i += threads) {
            const Pack<scalar> g = pack(chunk.grad, i);
            for (int k = 0; k < at_once; k++) sum += (double)g.values[k] * g.values[k];
        }
        for (int i = chunk.packs * at_once + threadIdx.x; i < chunk.size; i += threads)
            sum += (double)chunk.grad[i] * chunk.grad[i];
    }
    sum = block_sum(sum);
    if (threadIdx.x == 0) {
        sums[blockIdx.x] = sum;
        __threadfence();  // whoever sees the count sees the sum
        last = atomicAdd(ended, 1) == (int)gridDim.x - 1;
    }
    __syncthreads();
    if (!last) return;
    __threadfence();
    sum = 0;
    for (int i = threadIdx.x; i < (int)gridDim.x; i += threads) sum += sums[i];
    sum = block_sum(sum);
    if (threadIdx.x == 0) {
        *rate = scalar(max_norm / (sqrt(sum) + 1e-6));
        *ended = 0;  // for the next time
    }
}

template <int rule>
__device__ void update(const Chunk &chunk, scalar rate, const Numbers &numbers) {
    const bool clip = rate < 1;  // not for NaN
    Pack<scalar> *params = (Pack<scalar> *)chunk.param, *grads = (Pack<scalar> *)chunk.grad;
    Pack<scalar> *firsts = (Pack<scalar> *)chunk.first, *seconds = (Pack<scalar> *)chunk.second;
    for (int i = threadIdx.x; i < chunk.packs; i += threads) {
        Pack<scalar> p = params[i], g = grads[i], a = {}, b = {};
        if (states_of(rule) > 0) a = firsts[i];
        if (states_of(rule) > 1) b = seconds[i];
        for (int k = 0; k < at_once; k++) {
            if (clip) g.values[k] *= rate;
            apply(rule, p.values[k], g.values[k], a.values[k], b.values[k], numbers);
        }
        params[i] = p;
        if (clip) grads[i] = g;
        if (states_of(rule) > 0) firsts[i] = a;
        if (states_of(rule) > 1) seconds[i] = b;
    }
    for (int i = chunk.packs * at_once + threadIdx.x; i < chunk.size; i += threads) {
        scalar unused = 0;
        if (clip) chunk.grad[i] *= rate;
        apply(rule, chunk.param[i], chunk.grad[i], states_of(rule) > 0 ? chunk.first[i] : unused,
              states_of(rule) > 1 ? chunk.second[i] : unused, numbers);
    }
}

// rate: what clipping_rate has found, or null. numbers: where they are read, so many; or null, and the six that follow
// are taken.
extern "C" __global__ void __launch_bounds__(256)
    optimizer_update(long long rule, const long long *table, const int *row_of, long long chunks, const scalar *rate,
                     const scalar *numbers, long long count, scalar decay, scalar keep, scalar first, scalar second,
                     scalar third, scalar fourth) {
    const auto read = [&](int i) { return i < count ? numbers[i] : scalar(0); };
    const Numbers by_rule = numbers ? Numbers{read(0), read(1), {read(2), read(3), read(4), read(5)}}
                                    : Numbers{decay, keep, {first, second, third, fourth}};
    const scalar by = rate ? *rate : scalar(1);
    for (long long number = blockIdx.x; number < chunks; number += gridDim.x) {
        const Chunk chunk((const Parameter *)table, row_of, number);
        switch (rule) {
            case sgd: update<sgd>(chunk, by, by_rule); break;
            case momentum: update<momentum>(chunk, by, by_rule); break;
            case nesterov: update<nesterov>(chunk, by, by_rule); break;
            case adagrad: update<adagrad>(chunk, by, by_rule); break;
            case rmsprop: update<rmsprop>(chunk, by, by_rule); break;
            case adam: update<adam>(chunk, by, by_rule); break;
        }
    }
}
