#include "_reduce.cuh"

// One block.
extern "C" __global__ void sum_of_parts(const double *parts, long long n, double *loss) {
    double sum = 0;
    for (long long i = threadIdx.x; i < n; i += blockDim.x) sum += parts[i];
    sum = block_sum(sum);
    if (threadIdx.x == 0) *loss = sum;
}
