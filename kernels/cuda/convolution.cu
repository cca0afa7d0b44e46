// Products of matrices one of which is never built: where its elements lie in the images is computed when a tile of it
// is brought to shared memory. A block computes a tile of the product, each thread a part of it in registers. While two
// tiles in shared memory are multiplied, the next two are on their way to registers.

template <int COUNT>
struct alignas(COUNT * sizeof(scalar)) Group {
    scalar v[COUNT];
};

template <int COUNT>
__device__ inline void read_groups(const scalar *from, scalar *to) {
    constexpr int SIZE = COUNT < 4 ? COUNT : 4;
#pragma unroll
    for (int i = 0; i < COUNT; i += SIZE) *(Group<SIZE> *)(to + i) = *(const Group<SIZE> *)(from + i);
}

// A place among planes of height · width: pixels of images, or taps of the kernel over channels.
struct Place {
    long long plane;
    int i, j;

    __device__ inline Place(long long number, int height, int width) {
        const long long row = number / width;
        j = (int)(number - row * width);
        plane = row / height;
        i = (int)(row - plane * height);
    }
    __device__ inline void advance(const Place &by, int height, int width) {
        j += by.j;
        if (j >= width) j -= width, i++;
        i += by.i;
        if (i >= height) i -= height, plane++;
        plane += by.plane;
    }
};

// ---- forward, and the gradient of the input -------------------------------------------------------------------------

// One direction of a convolution. Result i of `results` reads x at first + i·step + r·tap_step, r < taps, where that
// is in the image, below `size`. It is written to out_first + i·out_step of out_size.
struct Axis {
    int size, first, step, taps, tap_step, results, out_first, out_step, out_size;
};

constexpr int COLUMNS = 128, DEPTH = 8;  // of tiles: results, and terms at a time

// ROWS: filters of a thread; of a tile they are 8 times as many. A thread has 8 results of each.
template <int ROWS>
__device__ inline void product(const scalar *x, int channels, const scalar *w, long long w_group, long long w_filter,
                               long long w_channel, int w_row, int w_column, const scalar *b, bool relu, int filters,
                               long long pixels, Axis v, Axis h, scalar *out) {
    constexpr int FILTERS = 8 * ROWS, PITCH = FILTERS + 4;  // + 4: no two threads of a warp write to one bank
    constexpr int BROUGHT = (FILTERS + 15) / 16;            // weights that a thread brings
    __shared__ __align__(32) scalar xs[2][DEPTH][COLUMNS], ws[2][DEPTH][PITCH];
    const int thread = threadIdx.x, group = blockIdx.z, groups = gridDim.z;
    const int terms = channels * v.taps * h.taps, first_filter = blockIdx.y * FILTERS;
    const long long first_pixel = blockIdx.x * (long long)COLUMNS;

    // The thread brings DEPTH terms of one pixel, and one term of some filters.
    const Place pixel(first_pixel + thread, v.results, h.results);
    const bool is_pixel = first_pixel + thread < pixels;
    const int top = v.first + pixel.i * v.step, left = h.first + pixel.j * h.step;
    const scalar *image = x + (pixel.plane * groups + group) * channels * v.size * h.size;
    const int w_first = thread / DEPTH, w_term = thread % DEPTH;
    const scalar *filter = w + group * w_group + (first_filter + w_first) * w_filter;
    Place x_tap(0, v.taps, h.taps), w_tap(w_term, v.taps, h.taps);
    const Place next_term(1, v.taps, h.taps), next_terms(DEPTH, v.taps, h.taps);
    scalar x_brought[DEPTH], w_brought[BROUGHT];

    auto bring = [&](int term) {
#pragma unroll
        for (int k = 0; k < DEPTH; k++) {
            const int y = top + x_tap.i * v.tap_step, z = left + x_tap.j * h.tap_step;
            const bool inside =
                is_pixel && term + k < terms && (unsigned)y < (unsigned)v.size && (unsigned)z < (unsigned)h.size;
            x_brought[k] = inside ? image[(x_tap.plane * v.size + y) * h.size + z] : scalar(0);
            x_tap.advance(next_term, v.taps, h.taps);
        }
        const long long at = w_tap.plane * w_channel + w_tap.i * w_row + w_tap.j * w_column;
#pragma unroll
        for (int i = 0; i < BROUGHT; i++) {
            const int f = w_first + 16 * i;
            const bool inside = f < FILTERS && first_filter + f < filters && term + w_term < terms;
            w_brought[i] = inside ? filter[16 * i * w_filter + at] : scalar(0);
        }
        w_tap.advance(next_terms, v.taps, h.taps);
    };
    auto put = [&](int buffer) {
#pragma unroll
        for (int k = 0; k < DEPTH; k++) xs[buffer][k][thread] = x_brought[k];
#pragma unroll
        for (int i = 0; i < BROUGHT; i++)
            if (w_first + 16 * i < FILTERS) ws[buffer][w_term][w_first + 16 * i] = w_brought[i];
    };

    // Results 4·across ... + 3 of either half of the tile: so a warp reads shared memory without conflicts.
    const int across = thread % 16, down = thread / 16;
    scalar sum[ROWS][8] = {};
    bring(0);
    put(0);
    __syncthreads();
    for (int term = 0, buffer = 0; term < terms; term += DEPTH, buffer ^= 1) {
        const bool more = term + DEPTH < terms;
        if (more) bring(term + DEPTH);
#pragma unroll
        for (int k = 0; k < DEPTH; k++) {
            alignas(32) scalar a[ROWS], c[8];
            read_groups<ROWS>(&ws[buffer][k][down * ROWS], a);
            read_groups<4>(&xs[buffer][k][4 * across], c);
            read_groups<4>(&xs[buffer][k][COLUMNS / 2 + 4 * across], c + 4);
#pragma unroll
            for (int i = 0; i < ROWS; i++)
#pragma unroll
                for (int j = 0; j < 8; j++) sum[i][j] += a[i] * c[j];
        }
        if (more) put(buffer ^ 1);
        __syncthreads();
    }

    const long long plane = (long long)v.out_size * h.out_size;
    const bool together =
        (long long)v.results * h.results == plane && plane % 4 == 0 && (long long)out % sizeof(Group<4>) == 0;
#pragma unroll
    for (int half = 0; half < 2; half++) {
        const long long first = first_pixel + half * (COLUMNS / 2) + 4 * across;
        long long at[4];
        for (int j = 0; j < 4; j++) {
            const Place to(first + j, v.results, h.results);
            at[j] = (to.plane * groups + group) * filters * plane;
            at[j] += (long long)(v.out_first + to.i * v.out_step) * h.out_size + h.out_first + to.j * h.out_step;
        }
#pragma unroll
        for (int i = 0; i < ROWS; i++) {
            const int f = first_filter + down * ROWS + i;
            if (f >= filters) break;
            Group<4> y;
            for (int j = 0; j < 4; j++) {
                y.v[j] = sum[i][4 * half + j];
                if (b) y.v[j] += b[group * filters + f];
                if (relu) y.v[j] = y.v[j] < 0 ? scalar(0) : y.v[j];
            }
            if (together && first < pixels)
                *(Group<4> *)(out + at[0] + f * plane) = y;
            else
                for (int j = 0; j < 4; j++)
                    if (first + j < pixels) out[at[j] + f * plane] = y.v[j];
        }
    }
}

// out[n, f, ..] = b[f] + sum over channels c and taps r, s of x[n, c, ..] · w[f · w_filter + c · w_channel + r · w_row
// + s · w_column], of each group (blockIdx.z), of as many filters as channels of x and out say. b: or null. rows: of
// the filters of a tile, for each of 8 threads. A macro, since all sizes of tiles have the same long list.
#define ARGUMENTS                                                                                                     \
    const scalar *x, long long channels, const scalar *w, long long w_group, long long w_filter, long long w_channel, \
        long long w_row, long long w_column, const scalar *b, bool relu, long long filters, long long pixels,         \
        long long H, long long top, long long down, long long taps_h, long long tap_down, long long rows,             \
        long long out_top, long long out_down, long long OH, long long W, long long left, long long right,            \
        long long taps_w, long long tap_right, long long columns, long long out_left, long long out_right,            \
        long long OW, scalar *out
#define PASSED                                                                                                        \
    x, int(channels), w, w_group, w_filter, w_channel, int(w_row), int(w_column), b, relu, int(filters), pixels,      \
        Axis{int(H), int(top), int(down), int(taps_h), int(tap_down), int(rows), int(out_top), int(out_down), int(OH)},\
        Axis{int(W), int(left), int(right), int(taps_w), int(tap_right), int(columns), int(out_left), int(out_right), \
             int(OW)}, out

extern "C" __global__ void __launch_bounds__(128) convolve_64(ARGUMENTS) { product<8>(PASSED); }
extern "C" __global__ void __launch_bounds__(128) convolve_32(ARGUMENTS) { product<4>(PASSED); }
extern "C" __global__ void __launch_bounds__(128) convolve_8(ARGUMENTS) { product<1>(PASSED); }

// ---- gradients of the parameters ------------------------------------------------------------------------------------

constexpr int TILE = 64, PIXELS = 16;

// Of each group (blockIdx.z / parts) and of one part of the pixels: dW[f, k] = sum over pixels of dout[f] · x[at k],
// with k a channel and tap, and db[f] = sum of dout[f]. What parts have found lies part_size elements apart.
__device__ inline void gradients(const scalar *x, const scalar *dout, int channels, int filters, int KH, int KW, int H,
                                 int W, int OH, int OW, int stride_h, int stride_w, int pad_h, int pad_w,
                                 int dilation_h, int dilation_w, long long pixels, int parts, long long part_size,
                                 scalar *dW, scalar *db) {
    constexpr int PITCH = TILE + 4;
    __shared__ __align__(32) scalar ds[2][PIXELS][PITCH], xs[2][PIXELS][PITCH];
    const int thread = threadIdx.x, part = blockIdx.z % parts, group = blockIdx.z / parts, groups = gridDim.z / parts;
    const int taps = channels * KH * KW, first_tap = blockIdx.x * TILE, first_filter = blockIdx.y * TILE;
    const long long begin = pixels * part / parts, end = pixels * (part + 1) / parts;

    // The thread brings one pixel in PIXELS, of four filters and for four taps.
    const int mine = thread % PIXELS, row = thread / PIXELS;
    Place pixel(begin + mine, OH, OW);
    const Place step(PIXELS, OH, OW);
    const long long plane = (long long)OH * OW, image = (long long)H * W;
    int down[4], right[4];
    const scalar *channel[4];
    for (int i = 0; i < 4; i++) {
        const Place tap(first_tap + row + 16 * i, KH, KW);
        down[i] = tap.i * dilation_h - pad_h;
        right[i] = tap.j * dilation_w - pad_w;
        channel[i] = x + (group * (long long)channels + tap.plane) * image;
    }
    const scalar *filter = dout + (group * (long long)filters + first_filter + row) * plane;
    scalar d_brought[4], x_brought[4], d_sum[4] = {};

    auto bring = [&](long long first) {
        const bool is_pixel = first + mine < end;
        const int y = pixel.i * stride_h, z = pixel.j * stride_w;
        const long long at = pixel.plane * groups * filters * plane + (long long)pixel.i * OW + pixel.j;
#pragma unroll
        for (int i = 0; i < 4; i++) {
            const bool is_filter = is_pixel && first_filter + row + 16 * i < filters;
            d_brought[i] = is_filter ? filter[at + 16 * i * plane] : scalar(0);
            d_sum[i] += d_brought[i];
            const int from = y + down[i], at_column = z + right[i];
            const bool inside = is_pixel && first_tap + row + 16 * i < taps && (unsigned)from < (unsigned)H &&
                                (unsigned)at_column < (unsigned)W;
            x_brought[i] = inside
                               ? channel[i][pixel.plane * groups * channels * image + (long long)from * W + at_column]
                               : scalar(0);
        }
        pixel.advance(step, OH, OW);
    };
    auto put = [&](int buffer) {
#pragma unroll
        for (int i = 0; i < 4; i++) {
            ds[buffer][mine][row + 16 * i] = d_brought[i];
            xs[buffer][mine][row + 16 * i] = x_brought[i];
        }
    };

    const int across = thread % 16, of_filters = thread / 16;
    scalar sum[4][4] = {};
    bring(begin);
    put(0);
    __syncthreads();
    int buffer = 0;
    for (long long first = begin; first < end; first += PIXELS, buffer ^= 1) {
        const bool more = first + PIXELS < end;
        if (more) bring(first + PIXELS);
#pragma unroll
        for (int k = 0; k < PIXELS; k++) {
            alignas(32) scalar a[4], c[4];
            read_groups<4>(&ds[buffer][k][4 * of_filters], a);
            read_groups<4>(&xs[buffer][k][4 * across], c);
#pragma unroll
            for (int i = 0; i < 4; i++)
#pragma unroll
                for (int j = 0; j < 4; j++) sum[i][j] += a[i] * c[j];
        }
        if (more) put(buffer ^ 1);
        __syncthreads();
    }

    for (int i = 0; i < 4; i++) {
        const int f = first_filter + 4 * of_filters + i;
        if (f >= filters) break;
        for (int j = 0; j < 4; j++) {
            const int k = first_tap + 4 * across + j;
            if (k < taps) dW[part * part_size + (group * (long long)filters + f) * taps + k] = sum[i][j];
        }
    }
    if (blockIdx.x > 0) return;  // all of a row of blocks have seen the same dout
    for (int i = 0; i < 4; i++) {
        const int f = first_filter + row + 16 * i;
        for (int lane = PIXELS / 2; lane; lane /= 2) d_sum[i] += __shfl_xor_sync(0xffffffff, d_sum[i], lane);
        if (mine == 0 && f < filters) db[part * part_size + group * filters + f] = d_sum[i];
    }
}

extern "C" __global__ void __launch_bounds__(256)
    convolve_gradients(const scalar *x, const scalar *dout, long long channels, long long filters, long long KH,
                       long long KW, long long H, long long W, long long OH, long long OW, long long stride_h,
                       long long stride_w, long long pad_h, long long pad_w, long long dilation_h, long long dilation_w,
                       long long pixels, long long parts, long long part_size, scalar *dW, scalar *db) {
    gradients(x, dout, int(channels), int(filters), int(KH), int(KW), int(H), int(W), int(OH), int(OW), int(stride_h),
              int(stride_w), int(pad_h), int(pad_w), int(dilation_h), int(dilation_w), pixels, int(parts), part_size,
              dW, db);
}

// What the parts have found, added in order: a part holds dW and after it db.
extern "C" __global__ void __launch_bounds__(256)
    sum_parts(const scalar *found, long long parts, long long W_size, long long part_size, scalar *dW, scalar *db) {
    const long long i = blockIdx.x * (long long)blockDim.x + threadIdx.x;
    if (i >= part_size) return;
    scalar sum = 0;
    for (int part = 0; part < parts; part++) sum += found[part * part_size + i];
    if (i < W_size)
        dW[i] = sum;
    else
        db[i - W_size] = sum;
}
