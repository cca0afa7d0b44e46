#include "_reduce.cuh"
#include "_rows.cuh"

// The options of a loss, and of what a class counts: w[c].
struct Options {
    const scalar *weight;  // or null: 1
    scalar smoothing;
    int C;

    __device__ scalar weight_of(int c) const { return weight ? weight[c] : scalar(1); }
    __device__ scalar q(scalar p, int c) const { return weight_of(c) * ((1 - smoothing) * p + smoothing / C); }
};

// t as class indices (N,), of which one may stand for nothing.
struct Indices {
    const label *t;
    bool ignoring;
    long long ignore;
    Options options;

    struct Row {
        const Options &options;
        scalar counts;  // 1; 0 where the row is ignored, NaN where its class is unknown
        long long t;

        __device__ scalar q(int c) const { return counts * options.q(c == t, c); }
    };

    __device__ scalar counts(long long t) const {
        if (ignoring && t == ignore) return 0;
        return 0 <= t && t < options.C ? scalar(1) : scalar(__int_as_float(0x7fc00000));
    }
    __device__ Row row(long long row) const { return {options, counts(t[row]), t[row]}; }

    // The sum of q over a row.
    template <bool of_block>
    __device__ scalar total(const Team<of_block> &team, const Row &row, int columns) const {
        if (!options.weight) return row.counts;
        scalar sum = 0;
        team.columns(columns, false, [&](auto, int c) { sum += row.q(c); });
        return team.joined(sum, Add());
    }
};

// t as label rows (N, C).
struct Rows {
    const scalar *t;
    Options options;

    struct Row {
        const Options &options;
        const scalar *p;

        __device__ scalar q(int c) const { return options.q(p[c], c); }
    };

    __device__ Row row(long long row) const { return {options, t + row * options.C}; }

    template <bool of_block>
    __device__ scalar total(const Team<of_block> &team, const Row &row, int columns) const {
        scalar sum = 0;
        team.columns(columns, false, [&](auto, int c) { sum += row.q(c); });
        return team.joined(sum, Add());
    }
};

// divisor: D, or null for N.
template <bool of_block, class Labels>
__device__ void softmax_with_loss(const Team<of_block> &team, const scalar *x, const Labels &labels,
                                  const double *divisor, scalar *dx, double *parts, long long N, int C) {
    const bool packs = in_packs(x, C) && in_packs(dx, C);
    const double D = divisor ? *divisor : N;
    const scalar scale = D == 0 ? 1 : 1 / D;
    double loss = 0;
    for_each_row(team, N, C, [&](long long row, int columns) {
        const scalar *x_row = x + row * C;
        const auto label_row = labels.row(min(row, N - 1));
        const Scores scores = scores_of(team, x_row, columns, packs);
        const scalar factor = labels.total(team, label_row, columns) * scale / scores.s, log_s = log(scores.s);
        scalar row_loss = 0;
        team.columns_backwards(columns, packs, [&](auto n, int c) {
            auto pack = load<n.value>(x_row + c);
            for (int i = 0; i < n.value; i++) {
                const scalar q = label_row.q(c + i), below = scores.m - pack.values[i];
                if (q != 0) row_loss += q * (log_s + below);  // in this order a small loss keeps its digits
                pack.values[i] = exp(-below) * factor - q * scale;
            }
            store(pack, dx + row * C + c);
        });
        row_loss = team.joined(row_loss, Add());
        if (team.rank == 0 && columns) loss += row_loss;
    });
    loss = block_sum(loss);
    if (threadIdx.x == 0) parts[blockIdx.x] = loss / D;
}

extern "C" __global__ void indices_by_lanes(const scalar *x, const label *t, const scalar *weight, double smoothing,
                                            long long ignoring, long long ignore, const double *divisor, scalar *dx,
                                            double *parts, long long N, long long C, long long lanes) {
    const Indices labels{t, ignoring != 0, ignore, {weight, scalar(smoothing), int(C)}};
    softmax_with_loss(Team<false>(lanes), x, labels, divisor, dx, parts, N, C);
}
extern "C" __global__ void __launch_bounds__(most_threads, 1)
    indices_by_blocks(const scalar *x, const label *t, const scalar *weight, double smoothing, long long ignoring,
                      long long ignore, const double *divisor, scalar *dx, double *parts, long long N, long long C) {
    const Indices labels{t, ignoring != 0, ignore, {weight, scalar(smoothing), int(C)}};
    softmax_with_loss(Team<true>(), x, labels, divisor, dx, parts, N, C);
}

extern "C" __global__ void rows_by_lanes(const scalar *x, const scalar *t, const scalar *weight, double smoothing,
                                         scalar *dx, double *parts, long long N, long long C, long long lanes) {
    const Rows labels{t, {weight, scalar(smoothing), int(C)}};
    softmax_with_loss(Team<false>(lanes), x, labels, nullptr, dx, parts, N, C);
}
extern "C" __global__ void __launch_bounds__(most_threads, 1)
    rows_by_blocks(const scalar *x, const scalar *t, const scalar *weight, double smoothing, scalar *dx,
                   double *parts, long long N, long long C) {
    const Rows labels{t, {weight, scalar(smoothing), int(C)}};
    softmax_with_loss(Team<true>(), x, labels, nullptr, dx, parts, N, C);
}

// D = the sum of w[t[n]] over the n that are not ignored. One block.
extern "C" __global__ void __launch_bounds__(1024)
    total_weight(const label *t, const scalar *weight, long long ignoring, long long ignore, long long N, long long C,
                 double *D) {
    const Indices labels{t, ignoring != 0, ignore, {weight, 0, int(C)}};
    double sum = 0;
    for (long long n = threadIdx.x; n < N; n += blockDim.x) {
        const scalar counts = labels.counts(t[n]);
        sum += counts == 1 ? labels.options.weight_of(t[n]) : counts;
    }
    sum = block_sum(sum);
    if (threadIdx.x == 0) *D = sum;
}
