// Losses, summed in float64, and in an order that does not depend on chance.

// The sum over all threads of a block, for its first thread.
__device__ inline double sum_of_block(double value) {
    __shared__ double of_warps[32];
    for (int flip = 16; flip; flip /= 2) value += __shfl_xor_sync(~0u, value, flip);
    if (threadIdx.x % 32 == 0) of_warps[threadIdx.x / 32] = value;
    __syncthreads();
    double sum = 0;
    if (threadIdx.x == 0)
        for (int warp = 0; warp < blockDim.x / 32; warp++) sum += of_warps[warp];
    return sum;
}
