// x is (N, C, P), where P is 1 for (N, C). A block has `columns` channels, and a share of the N · P values of each: all
// its threads go over one channel, or, where P is 1, the lanes of a warp lie across 32 of them. So neighbours read what
// lies together. blockIdx.x: which channels; blockIdx.y: which share.
//
// Sums are of distances from a channel's first value, and in float64: neither a mean far from 0 nor many values cost
// the variance its digits. They are added in a fixed order: of a thread, of the threads of a block, of the shares.

constexpr int threads = 256;

struct Shape {
    long long N;
    int C, P, columns;

    __device__ int channel() const { return blockIdx.x * columns + threadIdx.x % columns; }
    __device__ long long first(int c) const { return (long long)c * P; }
};

template <int width>
struct alignas(width * sizeof(scalar)) Group {
    scalar v[width];
};

// Where a thread finds its values of a channel, `width` of them at once; counted in such groups.
template <int width>
struct Walk {
    long long sample, left, first, samples_apart;
    int p, P, sample_step, p_step, step;

    __device__ Walk(const Shape &x, int c) : P(x.P / width), step(threads / x.columns) {
        const long long groups = x.N * P, begin = groups * blockIdx.y / gridDim.y;
        const long long start = begin + threadIdx.x / x.columns;
        left = groups * (blockIdx.y + 1) / gridDim.y - start;
        sample = start / P;
        p = int(start - sample * P);
        sample_step = step / P;
        p_step = step - sample_step * P;
        first = (long long)c * P;
        samples_apart = (long long)x.C * P;
    }
    __device__ bool more() const { return left > 0; }
    __device__ long long at() const { return sample * samples_apart + first + p; }
    __device__ void next() {
        left -= step;
        sample += sample_step;
        p += p_step;
        if (p >= P) {
            p -= P;
            sample++;
        }
    }
};

// a and b, each summed over the threads of a channel, which all get the sums.
__device__ inline void sum_over_threads(int columns, double &a, double &b) {
    __shared__ double sums[2][threads];
    const int thread = threadIdx.x;
    sums[0][thread] = a;
    sums[1][thread] = b;
    for (int half = threads / 2; half >= columns; half /= 2) {
        __syncthreads();
        if (thread < half) {
            sums[0][thread] += sums[0][thread + half];
            sums[1][thread] += sums[1][thread + half];
        }
    }
    __syncthreads();
    a = sums[0][thread % columns];
    b = sums[1][thread % columns];
}

// sums: (shares, 2, C).
__device__ inline void store_sums(const Shape &x, double a, double b, double *sums) {
    const int c = x.channel();
    sum_over_threads(x.columns, a, b);
    if (threadIdx.x < x.columns && c < x.C) {
        sums[blockIdx.y * 2LL * x.C + c] = a;
        sums[blockIdx.y * 2LL * x.C + x.C + c] = b;
    }
}

__device__ inline void sum_over_shares(const Shape &x, const double *sums, double &a, double &b) {
    const int c = x.channel();
    a = b = 0;
    if (c < x.C) {
        for (int share = threadIdx.x / x.columns; share < gridDim.y; share += threads / x.columns) {
            a += sums[share * 2LL * x.C + c];
            b += sums[share * 2LL * x.C + x.C + c];
        }
    }
    sum_over_threads(x.columns, a, b);
}

template <int width>
__device__ void sum_values(const Shape &shape, const scalar *x, double &sum, double &squares) {
    const int c = shape.channel();
    const scalar first = x[shape.first(c)];
    for (Walk<width> walk(shape, c); walk.more(); walk.next()) {
        const Group<width> a = ((const Group<width> *)x)[walk.at()];
        for (int i = 0; i < width; i++) {
            const double d = a.v[i] - first;
            sum += d;
            squares += d * d;
        }
    }
}

template <int width>
__device__ void normalize(const Shape &shape, const scalar *x, scalar mean, scalar scale, scalar beta, scalar *out) {
    for (Walk<width> walk(shape, shape.channel()); walk.more(); walk.next()) {
        Group<width> a = ((const Group<width> *)x)[walk.at()];
        for (int i = 0; i < width; i++) a.v[i] = scale * (a.v[i] - mean) + beta;
        ((Group<width> *)out)[walk.at()] = a;
    }
}

template <int width>
__device__ __forceinline__ void sum_gradients(const Shape &shape, const scalar *dout, const scalar *x, scalar mean,
                                              scalar scale, double &sum, double &sum_xn) {
    for (Walk<width> walk(shape, shape.channel()); walk.more(); walk.next()) {
        const Group<width> d = ((const Group<width> *)dout)[walk.at()], a = ((const Group<width> *)x)[walk.at()];
        for (int i = 0; i < width; i++) {
            sum += d.v[i];
            sum_xn += (double)d.v[i] * (scale * (a.v[i] - mean));
        }
    }
}

template <int width>
__device__ void gradient(const Shape &shape, const scalar *dout, const scalar *x, scalar mean, scalar scale,
                         scalar gamma, scalar mean_dout, scalar mean_dout_xn, scalar *dx) {
    for (Walk<width> walk(shape, shape.channel()); walk.more(); walk.next()) {
        Group<width> d = ((const Group<width> *)dout)[walk.at()];
        const Group<width> a = ((const Group<width> *)x)[walk.at()];
        for (int i = 0; i < width; i++)
            d.v[i] = gamma * scale * (d.v[i] - mean_dout - scale * (a.v[i] - mean) * mean_dout_xn);
        ((Group<width> *)dx)[walk.at()] = d;
    }
}

// The kernels. vector: whether rows of P values begin where 16 bytes can be read at once.

constexpr int at_once = 16 / sizeof(scalar);

extern "C" __global__ void __launch_bounds__(256)
    batch_statistics(const scalar *x, long long N, long long C, long long P, long long columns, bool vector,
                     double *sums) {
    const Shape shape = {N, int(C), int(P), int(columns)};
    double sum = 0, squares = 0;
    if (shape.channel() < C) {
        if (vector)
            sum_values<at_once>(shape, x, sum, squares);
        else
            sum_values<1>(shape, x, sum, squares);
    }
    store_sums(shape, sum, squares, sums);
}

extern "C" __global__ void __launch_bounds__(256)
    batch_normalization_forward(const scalar *x, long long N, long long C, long long P, long long columns, bool vector,
                                const double *sums, const scalar *gamma, const scalar *beta, scalar eps, scalar *out,
                                scalar *mean, scalar *var) {
    const Shape shape = {N, int(C), int(P), int(columns)};
    const int c = shape.channel();
    double sum, squares;
    sum_over_shares(shape, sums, sum, squares);
    if (c >= C) return;
    const double M = double(N) * P, from_first = sum / M, v = squares / M - from_first * from_first;
    const scalar m = scalar(x[shape.first(c)] + from_first), s = v < 0 ? scalar(0) : scalar(v);  // NaN stays NaN
    if (blockIdx.y == 0 && threadIdx.x < columns) {
        mean[c] = m;
        var[c] = s;
    }
    const scalar scale = gamma[c] / sqrt(s + eps);
    if (vector)
        normalize<at_once>(shape, x, m, scale, beta[c], out);
    else
        normalize<1>(shape, x, m, scale, beta[c], out);
}

extern "C" __global__ void __launch_bounds__(256)
    batch_normalization_inference(const scalar *x, long long N, long long C, long long P, long long columns,
                                  bool vector, const scalar *gamma, const scalar *beta, const scalar *mean,
                                  const scalar *var, scalar eps, scalar *out) {
    const Shape shape = {N, int(C), int(P), int(columns)};
    const int c = shape.channel();
    if (c >= C) return;
    const scalar scale = gamma[c] / sqrt(var[c] + eps);
    if (vector)
        normalize<at_once>(shape, x, mean[c], scale, beta[c], out);
    else
        normalize<1>(shape, x, mean[c], scale, beta[c], out);
}

extern "C" __global__ void __launch_bounds__(256, 4)
    batch_gradient_sums(const scalar *dout, const scalar *x, long long N, long long C, long long P, long long columns,
                        bool vector, const scalar *mean, const scalar *var, scalar eps, double *sums) {
    const Shape shape = {N, int(C), int(P), int(columns)};
    const int c = shape.channel();
    double sum = 0, sum_xn = 0;
    if (c < C) {
        const scalar scale = 1 / sqrt(var[c] + eps);
        if (vector)
            sum_gradients<at_once>(shape, dout, x, mean[c], scale, sum, sum_xn);
        else
            sum_gradients<1>(shape, dout, x, mean[c], scale, sum, sum_xn);
    }
    store_sums(shape, sum, sum_xn, sums);
}

extern "C" __global__ void __launch_bounds__(256)
    batch_normalization_backward(const scalar *dout, const scalar *x, long long N, long long C, long long P,
                                 long long columns, bool vector, const double *sums, const scalar *gamma,
                                 const scalar *mean, const scalar *var, scalar eps, scalar *dx, scalar *dgamma,
                                 scalar *dbeta) {
    const Shape shape = {N, int(C), int(P), int(columns)};
    const int c = shape.channel();
    double sum, sum_xn;
    sum_over_shares(shape, sums, sum, sum_xn);
    if (c >= C) return;
    if (blockIdx.y == 0 && threadIdx.x < columns) {
        dgamma[c] = scalar(sum_xn);
        dbeta[c] = scalar(sum);
    }
    const double M = double(N) * P;
    const scalar scale = 1 / sqrt(var[c] + eps), mean_dout = scalar(sum / M), mean_dout_xn = scalar(sum_xn / M);
    if (vector)
        gradient<at_once>(shape, dout, x, mean[c], scale, gamma[c], mean_dout, mean_dout_xn, dx);
    else
        gradient<1>(shape, dout, x, mean[c], scale, gamma[c], mean_dout, mean_dout_xn, dx);
}
