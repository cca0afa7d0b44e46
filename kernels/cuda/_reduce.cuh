// Sums and maxima over the threads of a warp and of a block, always in the same order.

template <class T>
__device__ inline T warp_sum(T a) {
    for (int lane = 16; lane; lane /= 2) a += __shfl_xor_sync(0xffffffff, a, lane);
    return a;
}

template <class T>
__device__ inline T warp_max(T a) {
    for (int lane = 16; lane; lane /= 2) a = fmax(a, __shfl_xor_sync(0xffffffff, a, lane));
    return a;
}

// Every thread gets the sum; the block's threads are a multiple of 32. Between two calls lies a barrier.
__device__ inline double block_sum(double a) {
    __shared__ double sums[32];
    a = warp_sum(a);
    if (threadIdx.x % 32 == 0) sums[threadIdx.x / 32] = a;
    __syncthreads();
    a = 0;
    for (int warp = 0; warp < (int)blockDim.x / 32; warp++) a += sums[warp];
    return a;
}
