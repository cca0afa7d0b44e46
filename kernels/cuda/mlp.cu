// One training step, for a batch of n:
//   by rows, a share of them for each block:  y of all stages, the loss, and the gradients g of all stages
//   grid.sync()
//   by weights, a tile for each warp:         dW = xᵀ · g, db = sum over rows of g, and the optimizer's update of both
//   grid.sync()
// (with clipping another in between: the norm is that of all gradients). Between the two lie y and g in global memory,
// which is to say in the second-level cache. How the work is shared out changes no sum: results do not depend on the
// GPU.
#ifdef __CUDACC__
#include <cooperative_groups.h>
#endif
#include "_math.cuh"
#include "_reduce.cuh"
#include "_rules.cuh"

constexpr int threads = 512, warps = threads / 32, at_most_rows = 4;

enum Activation { none, relu, sigmoidal };

// A stage y = act(x · W + b), as mlp.py describes it. Addresses are 0 where there is no such array; strides and sizes
// in elements. before: the widths of the stages before; tasks_before: tiles of their weights.
struct Stage {
    long long in, out, W, W_row, W_column, b, dW, db, activation, before, tasks_before, W_states[2], b_states[2];
};

struct Batch {
    const scalar *x;
    const long long *t;
    const scalar *t_rows;
    const long long *order;
    long long first, n;

    __device__ long long sample(long long row) const { return order ? order[first + row] : first + row; }
};

// Where the threads of a block hand each other something: as much as mlp.py asks for at the launch.
__device__ inline double *between_threads() {
    extern __shared__ double memory[];
    return memory;
}

// Between barriers of the grid.
__device__ inline double sum_over_block(double a) {
    double *sums = between_threads();
    a = warp_sum(a);
    if (threadIdx.x % 32 == 0) sums[threadIdx.x / 32] = a;
    __syncthreads();
    a = 0;
    for (int warp = 0; warp < warps; warp++) a += sums[warp];
    return a;
}

__device__ inline scalar activated(long long activation, scalar y) {
    return activation == relu ? (y < 0 ? scalar(0) : y) : activation == sigmoidal ? sigmoid(y) : y;  // NaN stays NaN
}

// g times the derivative of the activation, whose output is y.
__device__ inline scalar before_activation(long long activation, scalar g, scalar y) {
    return activation == relu ? (y <= 0 ? scalar(0) : g) : activation == sigmoidal ? g * y * (1 - y) : g;
}

// use(r, o, sum over i < depth of rows[r][i] · M[i · down + o · across]) for r < ROWS, o < width: each once, by one
// thread. Lanes go to neighbours in M: along o, and then warps share out the sum; or along i, and the warp adds up. A
// barrier follows: not here, since sums are shared out only where one round does it.
template <int ROWS, class F>
__device__ __forceinline__ void product(const scalar *const *rows, long long depth, long long width, const scalar *M,
                                        long long down, long long across, F use) {
    const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    scalar sum[ROWS];
    if (across != 1 && depth > 32) {
        for (long long o = warp; o < width; o += warps) {
            for (int r = 0; r < ROWS; r++) sum[r] = 0;
#pragma unroll 4
            for (long long i = lane; i < depth; i += 32) {
                const scalar m = M[i * down + o * across];
#pragma unroll
                for (int r = 0; r < ROWS; r++) sum[r] += rows[r][i] * m;
            }
            for (int r = 0; r < ROWS; r++) {
                const scalar total = warp_sum(sum[r]);
                if (lane == 0) use(r, o, total);
            }
        }
        return;
    }
    scalar *parts = (scalar *)between_threads();  // (ROWS, threads)
    const long long columns = (width + 31) / 32;
    const int at_once = columns < warps ? (int)columns : warps, shares = warps / at_once;
    const int share = warp / at_once;
    for (long long column = 0; column < columns; column += at_once) {
        const long long o = (column + warp % at_once) * 32 + lane;
        for (int r = 0; r < ROWS; r++) sum[r] = 0;
        if (share < shares && o < width) {
            const scalar *at = M + o * across;
#pragma unroll 8
            for (long long i = depth * share / shares; i < depth * (share + 1) / shares; i++) {
                const scalar m = at[i * down];
#pragma unroll
                for (int r = 0; r < ROWS; r++) sum[r] += rows[r][i] * m;
            }
        }
        if (shares > 1) {
            for (int r = 0; r < ROWS; r++) parts[r * threads + threadIdx.x] = sum[r];
            __syncthreads();
            if (share == 0)
                for (int r = 0; r < ROWS; r++)
                    for (int s = 1; s < shares; s++) sum[r] += parts[r * threads + threadIdx.x + s * at_once * 32];
            asm volatile("" ::: "memory");  // registers spill of what the compiler would move across
        }
        if (share == 0 && o < width)
            for (int r = 0; r < ROWS; r++) use(r, o, sum[r]);
    }
}

// The same for as many rows as there are: one, or up to at_most_rows.
template <class F>
__device__ __forceinline__ void product_of(int count, const scalar *const *rows, long long depth, long long width,
                                           const scalar *M, long long down, long long across, F use) {
    if (count == 1)
        product<1>(rows, depth, width, M, down, across, use);
    else
        product<at_most_rows>(rows, depth, width, M, down, across, [&](int r, long long o, scalar sum) {
            if (r < count) use(r, o, sum);
        });
}

// use(r, o) for the elements of count rows, shared out among the block's threads.
template <class F>
__device__ __forceinline__ void each(int count, long long width, F use) {
#pragma unroll
    for (int r = 0; r < at_most_rows; r++)
        for (long long o = threadIdx.x; r < count && o < width; o += threads) use(r, o);
}

// y of a stage for some rows, one after another at y, from its inputs, which are anywhere.
__device__ __forceinline__ void stage_forward(const Stage &stage, int count, const scalar *const *rows, scalar *y) {
    if (stage.W) {
        const scalar *b = (const scalar *)stage.b;
        product_of(count, rows, stage.in, stage.out, (const scalar *)stage.W, stage.W_row, stage.W_column,
                   [&](int r, long long o, scalar sum) {
                       y[r * stage.out + o] = activated(stage.activation, b ? sum + b[o] : sum);
                   });
    } else {
        each(count, stage.out,
             [&](int r, long long o) { y[r * stage.out + o] = activated(stage.activation, rows[r][o]); });
    }
    __syncthreads();
}

// Softmax of a row by a warp: out = exp(x - m), which may be x itself; returns their sum.
__device__ inline scalar exponentials(const scalar *x, long long classes, scalar &m, scalar *out) {
    const int lane = threadIdx.x % 32;
    scalar sum = 0;
    m = __int_as_float(0xff800000);  // -infinity; NVRTC has no names for it and NaN
    for (long long c = lane; c < classes; c += 32) m = fmax(m, x[c]);
    m = warp_max(m);
    for (long long c = lane; c < classes; c += 32) {
        out[c] = exp(x[c] - m);
        sum += out[c];
    }
    return warp_sum(sum);
}

// The loss of a row of scores y, by a warp, and g = the gradient of the mean loss of the batch before the activation of
// y.
__device__ inline scalar loss_of(const Stage &last, const Batch &batch, long long row, const scalar *y, scalar *g) {
    const int lane = threadIdx.x % 32;
    const long long sample = batch.sample(row);
    const scalar *t = batch.t_rows ? batch.t_rows + sample * last.out : nullptr;
    const long long label = t ? -1 : batch.t[sample];
    const scalar scale = 1 / scalar(batch.n);
    scalar m, total = 0, loss = 0;
    const scalar sum = exponentials(y, last.out, m, g);
    for (long long c = lane; c < last.out; c += 32) {
        const scalar p = t ? t[c] : scalar(c == label);
        total += p;
        if (p != 0) loss -= p * (y[c] - m);  // a class of probability 0 costs nothing, however impossible its score
    }
    total = warp_sum(total);
    loss = warp_sum(loss);
    for (long long c = lane; c < last.out; c += 32) {
        const scalar p = t ? t[c] : scalar(c == label);
        g[c] = before_activation(last.activation, scale * (g[c] / sum * total - p), y[c]);
    }
    return loss + total * log(sum);
}

// A block's share of the rows through all stages and back. y, g: (n, width) of each stage, one after another.
__device__ __forceinline__ void rows_pass(const Stage *stages, int count, const Batch &batch, scalar *y, scalar *g,
                                          scalar *losses) {
    const long long share = (batch.n + gridDim.x - 1) / gridDim.x, end = min(batch.n, share * (blockIdx.x + 1));
    for (long long first = share * blockIdx.x; first < end; first += at_most_rows) {
        const int here = (int)min((long long)at_most_rows, end - first);
        const scalar *rows[at_most_rows];
        for (int r = 0; r < at_most_rows; r++)
            rows[r] = batch.x + batch.sample(first + min(r, here - 1)) * stages[0].in;
        for (int s = 0; s < count; s++) {
            scalar *out = y + batch.n * stages[s].before + first * stages[s].out;
            stage_forward(stages[s], here, rows, out);
            for (int r = 0; r < at_most_rows; r++) rows[r] = out + min(r, here - 1) * stages[s].out;
        }
        const Stage &last = stages[count - 1];
        const int warp = threadIdx.x / 32;
        if (warp < here) {
            const long long at = batch.n * last.before + (first + warp) * last.out;
            const scalar loss = loss_of(last, batch, first + warp, y + at, g + at);
            if (threadIdx.x % 32 == 0) losses[first + warp] = loss;
        }
        __syncthreads();
        for (int s = count - 1; s > 0; s--) {
            const Stage &stage = stages[s];
            const long long from = batch.n * stage.before + first * stage.out;
            const long long to = batch.n * stages[s - 1].before + first * stage.in;
            for (int r = 0; r < at_most_rows; r++) rows[r] = g + from + min(r, here - 1) * stage.out;
            const auto store = [&](int r, long long i, scalar sum) {
                const long long at = to + r * stage.in + i;
                g[at] = before_activation(stages[s - 1].activation, sum, y[at]);
            };
            if (stage.W)
                product_of(here, rows, stage.out, stage.in, (const scalar *)stage.W, stage.W_column, stage.W_row,
                           store);
            else
                each(here, stage.in, [&](int r, long long i) { store(r, i, rows[r][i]); });
            __syncthreads();
        }
    }
}

// A tile of the weights of a stage: 32 columns of at_most_rows rows, of which the one after the last is the bias.
struct Tile {
    const Stage *stage;
    int s;
    long long row, column;  // of this lane

    __device__ Tile(const Stage *stages, int count, long long task) : s(0) {
        while (s + 1 < count && stages[s + 1].tasks_before <= task) s++;
        stage = stages + s;
        const long long number = task - stage->tasks_before, columns = (stage->out + 31) / 32;
        row = number / columns * at_most_rows;
        column = number % columns * 32 + threadIdx.x % 32;
    }
    __device__ bool has(int r) const { return column < stage->out && row + r < stage->in + (stage->b != 0); }
    __device__ scalar &gradient(int r) const {
        return row + r < stage->in ? ((scalar *)stage->dW)[(row + r) * stage->out + column]
                                   : ((scalar *)stage->db)[column];
    }
    __device__ void update(int r, scalar g, int rule, const Numbers &numbers) const {
        const bool is_b = row + r == stage->in;
        const long long at = is_b ? column : (row + r) * stage->out + column;
        scalar *p = is_b ? (scalar *)stage->b + column
                         : (scalar *)stage->W + (row + r) * stage->W_row + column * stage->W_column;
        const long long *states = is_b ? stage->b_states : stage->W_states;
        scalar unused = 0;
        apply(rule, *p, g, states[0] ? ((scalar *)states[0])[at] : unused,
              states[1] ? ((scalar *)states[1])[at] : unused, numbers);
    }
};

// The gradients of a tile, each the sum over the rows of the batch; returns the sum of their squares in this lane.
__device__ __forceinline__ void tile_gradient(const Tile &tile, const Stage *stages, const Batch &batch,
                                              const scalar *y, const scalar *g, scalar *sum) {
    const Stage &stage = *tile.stage;
    const scalar *x = tile.s ? y + batch.n * stages[tile.s - 1].before : batch.x;
    const scalar *at = g + batch.n * stage.before + (tile.column < stage.out ? tile.column : 0);
    for (int r = 0; r < at_most_rows; r++) sum[r] = 0;
#pragma unroll 4
    for (long long n = 0; n < batch.n; n++) {
        const scalar *row = x + (tile.s ? n : batch.sample(n)) * stage.in, d = at[n * stage.out];
#pragma unroll
        for (int r = 0; r < at_most_rows; r++) sum[r] += (tile.row + r < stage.in ? row[tile.row + r] : scalar(1)) * d;
    }
}

// The number of batches before the first one with a wrong label: out of range, or not finite.
__device__ inline long long batches_in_order(const Batch &batch, long long batches, long long classes) {
    int *first = (int *)between_threads();
    if (threadIdx.x == 0) *first = (int)batches;
    __syncthreads();
    const long long labels = batch.t_rows ? classes : 1;
    for (long long i = threadIdx.x; i < batches * batch.n * labels; i += threads) {
        const long long sample = batch.sample(i / labels);
        const bool good = batch.t_rows ? isfinite(batch.t_rows[sample * classes + i % labels])
                                       : batch.t[sample] >= 0 && batch.t[sample] < classes;
        if (!good) atomicMin(first, (int)(i / labels / batch.n));
    }
    __syncthreads();
    const int result = *first;
    __syncthreads();
    return result;
}

// numbers: a row for each step; or null, and the six that follow are those of all steps. t or t_rows, order: null
// where there are none. y, g, losses_of_rows, squares: memory for one batch.
extern "C" __global__ void __launch_bounds__(512)
    mlp_train(const long long *table, long long stages, const scalar *x, const long long *t, const scalar *t_rows,
              const long long *order, long long n, long long asked, long long rule, bool update,
              const scalar *numbers, long long number_columns, scalar decay, scalar keep, scalar first, scalar second,
              scalar third, scalar fourth, double max_norm, scalar *y, scalar *g,
              scalar *losses_of_rows, double *squares, long long tasks, double *losses) {
    const cooperative_groups::grid_group grid = cooperative_groups::this_grid();
    const Stage *stage = (const Stage *)table;
    const int count = (int)stages, lane = threadIdx.x % 32;
    // Neighbouring tiles go to different blocks.
    const long long task = threadIdx.x / 32 * (long long)gridDim.x + blockIdx.x,
                    all_warps = (long long)gridDim.x * warps;
    const bool clip = update && max_norm > 0;
    Batch batch = {x, t, t_rows, order, 0, n};
    const long long batches = batches_in_order(batch, asked, stage[count - 1].out);
    if (blockIdx.x == 0)  // of steps that are not done
        for (long long i = batches + threadIdx.x; i < asked; i += threads) losses[i] = __int_as_float(0x7fc00000);
    for (long long number = 0; number < batches; number++, batch.first += n) {
        rows_pass(stage, count, batch, y, g, losses_of_rows);
        grid.sync();

        const scalar *row = numbers + number * number_columns;
        const auto read = [&](int i) { return i < number_columns ? row[i] : scalar(0); };
        const Numbers by = numbers ? Numbers{read(0), read(1), {read(2), read(3), read(4), read(5)}}
                                   : Numbers{decay, keep, {first, second, third, fourth}};
        for (long long i = task; i < tasks; i += all_warps) {
            const Tile tile(stage, count, i);
            scalar sum[at_most_rows];
            double square = 0;
            tile_gradient(tile, stage, batch, y, g, sum);
#pragma unroll
            for (int r = 0; r < at_most_rows; r++) {
                if (!tile.has(r)) continue;
                tile.gradient(r) = sum[r];
                square += (double)sum[r] * sum[r];
                if (update && !clip) tile.update(r, sum[r], (int)rule, by);
            }
            if (clip) {
                square = warp_sum(square);
                if (lane == 0) squares[i] = square;
            }
        }
        if (blockIdx.x == gridDim.x - 1 && threadIdx.x >= threads - 32) {  // the warp that has least to do
            double loss = 0;
            for (long long r = lane; r < n; r += 32) loss += losses_of_rows[r];
            loss = warp_sum(loss);
            if (lane == 0) losses[number] = loss / n;
        }
        grid.sync();
        if (!clip) continue;

        double square = 0;
        for (long long i = threadIdx.x; i < tasks; i += threads) square += squares[i];
        const scalar rate = max_norm / (sqrt(sum_over_block(square)) + 1e-6);
        for (long long i = task; i < tasks; i += all_warps) {
            const Tile tile(stage, count, i);
#pragma unroll
            for (int r = 0; r < at_most_rows; r++) {
                if (!tile.has(r)) continue;
                scalar &d = tile.gradient(r);
                if (rate < 1) d *= rate;  // not for NaN
                tile.update(r, d, (int)rule, by);
            }
        }
        grid.sync();
    }
}

// scratch: two outputs of the widest stage, for at_most_rows rows of each block.
extern "C" __global__ void __launch_bounds__(512)
    mlp_predict(const long long *table, long long stages, const scalar *x, long long n, bool probabilities,
                scalar *scratch, long long widest, scalar *out) {
    const Stage *stage = (const Stage *)table;
    const int count = (int)stages, warp = threadIdx.x / 32;
    const long long classes = stage[count - 1].out;
    scalar *own = scratch + blockIdx.x * 2LL * at_most_rows * widest;
    for (long long first = blockIdx.x * (long long)at_most_rows; first < n;
         first += gridDim.x * (long long)at_most_rows) {
        const int here = (int)min((long long)at_most_rows, n - first);
        const scalar *rows[at_most_rows];
        for (int r = 0; r < at_most_rows; r++) rows[r] = x + (first + min(r, here - 1)) * stage[0].in;
        for (int s = 0; s < count; s++) {
            scalar *y = s == count - 1 ? out + first * classes : own + s % 2 * at_most_rows * widest;
            stage_forward(stage[s], here, rows, y);
            for (int r = 0; r < at_most_rows; r++) rows[r] = y + min(r, here - 1) * stage[s].out;
        }
        if (probabilities && warp < here) {
            scalar *y = out + (first + warp) * classes, m;
            const scalar sum = exponentials(y, classes, m, y);
            for (long long c = threadIdx.x % 32; c < classes; c += 32) y[c] /= sum;
        }
    }
}
