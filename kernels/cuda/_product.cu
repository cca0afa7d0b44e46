// Matrix products: out = ending(A·B), A (M, K), B (K, N), out (M, N). All sizes are below 2^31.
//
// Three kernels, for many elements of out to few. In `product_large` and `product_medium` a block computes a square
// tile of out from pieces of A and B in shared memory: one pair of pieces is read while the next is filled, and what
// fills it is under way from memory meanwhile. A thread keeps 8 x 8 or 4 x 4 sums in registers, so that a value read
// from shared memory enters 8 or 4 multiply-adds; they are groups of 4 x 4, placed so that the lanes of a warp read
// without conflicts. (Volkov, Demmel, SC 2008; warps within tiles: NVIDIA's CUTLASS.) In `product_small`, where tiles
// that large would be too few for a GPU, the warps of a block share the sums over k; their shares are added in order.
#include "_math.cuh"

constexpr int threads = 256;

struct alignas(16) Quad {
    scalar values[4];
};

// A or B, as matrices of k and of their other axis, the outer one; along one of the two, elements are neighbours.
struct Operand {
    const scalar *values;
    long long outer_step, k_step;
    int outer;
};

__device__ inline bool is_aligned(const scalar *address) {
    return reinterpret_cast<unsigned long long>(address) % alignof(Quad) == 0;
}

// ---- pieces of A and B, (depth, tile), brought to shared memory ----

template <int tile, int depth>
struct alignas(16) Piece {
    static constexpr int pitch = tile + 4;  // what is transposed on its way is written without conflicts
    scalar values[depth * pitch];

    __device__ Quad &quad(int k, int outer) { return *reinterpret_cast<Quad *>(values + k * pitch + outer); }
};

// One worker's share of pieces that follow each other along k: quads of neighbours in memory, 0 beyond the matrix.
template <int tile, int depth, int workers>
struct Loader {
    static constexpr int quads = tile * depth / 4 / workers;
    const bool along_k, aligned;
    const int k, outer, k_apart, outer_apart;  // of this worker's first quad in a piece, and from one to the next
    const long long apart, advance;
    int left_along_k, left_outer;  // in the matrix, from the next piece's first quad on
    const scalar *next;
    Quad held[quads];

    __device__ Loader(const Operand &a, int first, int k_begin, int k_end, int worker)
        : along_k(a.k_step == 1),
          aligned(is_aligned(a.values) && (along_k ? a.outer_step : a.k_step) % 4 == 0),
          k(along_k ? worker % (depth / 4) * 4 : worker / (tile / 4)),
          outer(along_k ? worker / (depth / 4) : worker % (tile / 4) * 4),
          k_apart(along_k ? 0 : workers / (tile / 4)),
          outer_apart(along_k ? workers / (depth / 4) : 0),
          apart(outer_apart * a.outer_step + k_apart * a.k_step),
          advance(depth * a.k_step),
          left_along_k(k_end - k_begin - k),
          left_outer(a.outer - first - outer),
          next(a.values + (first + outer) * a.outer_step + (k_begin + k) * a.k_step) {}

    __device__ void load() {
#pragma unroll
        for (int i = 0; i < quads; i++) {
            const int ks = left_along_k - i * k_apart, outers = left_outer - i * outer_apart;
            const int left = along_k ? (outers > 0 ? ks : 0) : (ks > 0 ? outers : 0);
            const scalar *from = next + i * apart;
            if (aligned && left >= 4) {
                held[i] = *reinterpret_cast<const Quad *>(from);
            } else {
#pragma unroll
                for (int j = 0; j < 4; j++) held[i].values[j] = j < left ? from[j] : scalar(0);
            }
        }
        next += advance;
        left_along_k -= depth;
    }

    __device__ void store(Piece<tile, depth> &piece) const {
#pragma unroll
        for (int i = 0; i < quads; i++) {
            const int at_k = k + i * k_apart, at_outer = outer + i * outer_apart;
            if (along_k) {
#pragma unroll
                for (int j = 0; j < 4; j++) piece.values[(at_k + j) * piece.pitch + at_outer] = held[i].values[j];
            } else {
                piece.quad(at_k, at_outer) = held[i];
            }
        }
    }
};

__device__ inline void multiply_add(scalar (&sums)[4][4], const Quad &a, const Quad &b) {
#pragma unroll
    for (int i = 0; i < 4; i++)
#pragma unroll
        for (int j = 0; j < 4; j++) sums[i][j] += a.values[i] * b.values[j];
}

// ---- what becomes of the sums ----

enum : int { STORE, BIAS, BIAS_RELU, BIAS_SIGMOID, RELU_GRADIENT, SIGMOID_GRADIENT };

struct Output {
    scalar *values;
    long long step;
    int M, N, ending;
    const scalar *vector;  // the bias (N,), or y (M, N), the output of the activation whose gradient this becomes
    long long vector_step;  // from row to row of y; 0 of the bias

    __device__ scalar finished(scalar sum, int row, int column) const {
        if (ending == STORE) return sum;
        const scalar v = vector[row * vector_step + column];
        switch (ending) {
            case BIAS: return sum + v;
            case BIAS_RELU: return sum + v <= 0 ? scalar(0) : sum + v;
            case BIAS_SIGMOID: return sigmoid(sum + v);
            case RELU_GRADIENT: return v <= 0 ? scalar(0) : sum;
            default: return sum * v * (1 - v);
        }
    }

    __device__ void write(Quad sums, int row, int column) const {
        if (row >= M || column >= N) return;
        scalar *place = values + row * step + column;
#pragma unroll
        for (int j = 0; j < 4; j++)
            if (column + j < N) sums.values[j] = finished(sums.values[j], row, column + j);
        if (column + 4 <= N && is_aligned(place)) {
            *reinterpret_cast<Quad *>(place) = sums;
        } else {
#pragma unroll
            for (int j = 0; j < 4; j++)
                if (column + j < N) place[j] = sums.values[j];
        }
    }
};

// ---- many elements of out ----

// The tile that this block computes. Blocks that run at one time share rows and columns: they take 8 rows of tiles,
// column by column.
__device__ inline int2 tile_of_block(int rows, int columns) {
    const int group = blockIdx.x / (8 * columns), in_group = blockIdx.x % (8 * columns);
    const int height = min(8, rows - 8 * group);
    return make_int2(8 * group + in_group % height, in_group / height);
}

template <int groups>
__device__ void product_of_block(const Operand &a, const Operand &b, int K, const Output &out, scalar *column_sums) {
    constexpr int tile = 64 * groups, depth = threads * 4 / tile;
    __shared__ Piece<tile, depth> A[2], B[2];

    const int2 at = tile_of_block((out.M + tile - 1) / tile, (out.N + tile - 1) / tile);
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    // Of a tile, warps take 4 x 2 parts; lanes 4 x 8 places in each group of 16 rows and 32 columns.
    const int row = warp / 2 * (16 * groups) + lane / 8 * 4, column = warp % 2 * (32 * groups) + lane % 8 * 4;
    const bool sums_columns = column_sums && at.x == 0 && threadIdx.x < tile;

    Loader<tile, depth, threads> from_a(a, at.x * tile, 0, K, threadIdx.x), from_b(b, at.y * tile, 0, K, threadIdx.x);
    scalar sums[groups][groups][4][4] = {}, column_sum = 0;
    from_a.load();
    from_b.load();
    from_a.store(A[0]);
    from_b.store(B[0]);
    __syncthreads();
    for (int k = 0, now = 0; k < K; k += depth, now ^= 1) {
        const bool more = k + depth < K;
        if (more) {
            from_a.load();
            from_b.load();
        }
#pragma unroll 2  // of 4 or all 8, registers spill
        for (int i = 0; i < depth; i++) {
            Quad rows[groups], columns[groups];
#pragma unroll
            for (int g = 0; g < groups; g++) {
                rows[g] = A[now].quad(i, row + 16 * g);
                columns[g] = B[now].quad(i, column + 32 * g);
            }
#pragma unroll
            for (int g = 0; g < groups; g++)
#pragma unroll
                for (int h = 0; h < groups; h++) multiply_add(sums[g][h], rows[g], columns[h]);
        }
        if (sums_columns)
            for (int i = 0; i < depth; i++) column_sum += B[now].values[i * B[now].pitch + threadIdx.x];
        if (more) {  // nobody reads the other pair: all have passed the last barrier
            from_a.store(A[now ^ 1]);
            from_b.store(B[now ^ 1]);
            __syncthreads();
        }
    }
#pragma unroll
    for (int g = 0; g < groups; g++)
#pragma unroll
        for (int i = 0; i < 4; i++)
#pragma unroll
            for (int h = 0; h < groups; h++) {
                const scalar(&s)[4] = sums[g][h][i];
                out.write({s[0], s[1], s[2], s[3]}, at.x * tile + row + 16 * g + i, at.y * tile + column + 32 * h);
            }
    if (sums_columns && at.y * tile + threadIdx.x < out.N) column_sums[at.y * tile + threadIdx.x] = column_sum;
}

// ---- few elements of out ----

constexpr int sharing = 32 / sizeof(scalar);  // warps: as many tiles of 32 x 32 sums as fit into 32 KB

// A tile of 32 x 32. Each warp sums its share of k on its own, from pieces that no other warp sees.
__device__ void product_of_warps(const Operand &a, const Operand &b, int K, const Output &out, scalar *column_sums) {
    constexpr int tile = 32, depth = 8;
    struct Pieces {
        Piece<tile, depth> A, B;
    };
    union Memory {
        Pieces pieces;
        Quad sums[tile][tile / 4];  // once the pieces are read
    };
    __shared__ Memory memory[sharing];
    __shared__ scalar sums_of_columns[sharing][tile];

    const int columns_of_tiles = (out.N + tile - 1) / tile;
    const int first_row = blockIdx.x / columns_of_tiles * tile, first_column = blockIdx.x % columns_of_tiles * tile;
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32, row = lane / 4 * 4, column = lane % 4 * 8;
    const int share = (K + sharing * depth - 1) / (sharing * depth) * depth, k_end = min(K, (warp + 1) * share);

    Loader<tile, depth, 32> from_a(a, first_row, warp * share, k_end, lane);
    Loader<tile, depth, 32> from_b(b, first_column, warp * share, k_end, lane);
    Pieces &pieces = memory[warp].pieces;
    scalar sums[2][4][4] = {}, column_sum = 0;
    from_a.load();
    from_b.load();
    for (int k = warp * share; k < k_end; k += depth) {
        from_a.store(pieces.A);
        from_b.store(pieces.B);
        __syncwarp();
        from_a.load();  // 0 beyond k_end
        from_b.load();
#pragma unroll
        for (int i = 0; i < depth; i++) {
            multiply_add(sums[0], pieces.A.quad(i, row), pieces.B.quad(i, column));
            multiply_add(sums[1], pieces.A.quad(i, row), pieces.B.quad(i, column + 4));
            column_sum += pieces.B.values[i * pieces.B.pitch + lane];
        }
        __syncwarp();
    }
#pragma unroll
    for (int h = 0; h < 2; h++)
#pragma unroll
        for (int i = 0; i < 4; i++) {
            const scalar(&s)[4] = sums[h][i];
            memory[warp].sums[row + i][column / 4 + h] = {s[0], s[1], s[2], s[3]};
        }
    sums_of_columns[warp][lane] = column_sum;
    __syncthreads();
    for (int q = threadIdx.x; q < tile * tile / 4; q += sharing * 32) {
        Quad total = {};
        for (int w = 0; w < sharing; w++)
#pragma unroll
            for (int j = 0; j < 4; j++) total.values[j] += memory[w].sums[q / 8][q % 8].values[j];
        out.write(total, first_row + q / 8, first_column + q % 8 * 4);
    }
    if (column_sums && first_row == 0 && threadIdx.x < tile && first_column + threadIdx.x < out.N) {
        scalar total = 0;
        for (int w = 0; w < sharing; w++) total += sums_of_columns[w][threadIdx.x];
        column_sums[first_column + threadIdx.x] = total;
    }
}

// column_sums (N,): of B, unless null.
#define PARAMETERS                                                                                                     \
    const scalar *a, long long a_row, long long a_k, const scalar *b, long long b_k, long long b_column, long long M, \
        long long N, long long K, long long ending, const scalar *vector, long long vector_step,                      \
        scalar *column_sums, scalar *out, long long out_step
#define ARGUMENTS                                                   \
    {a, a_row, a_k, int(M)}, {b, b_column, b_k, int(N)}, int(K),    \
        {out, out_step, int(M), int(N), int(ending), vector, vector_step}, column_sums

// Of doubles, 8 x 8 sums would not fit into registers.
extern "C" __global__ void __launch_bounds__(threads, 2) product_large(PARAMETERS) {
    product_of_block<8 / sizeof(scalar)>(ARGUMENTS);
}
extern "C" __global__ void __launch_bounds__(threads, 2) product_medium(PARAMETERS) {
    product_of_block<1>(ARGUMENTS);
}
extern "C" __global__ void __launch_bounds__(32 * sharing) product_small(PARAMETERS) {
    product_of_warps(ARGUMENTS);
}
