#include "_rows.cuh"

template <bool of_block>
__device__ void softmax_forward(const Team<of_block> &team, const scalar *x, scalar *y, long long N, int C) {
    const bool packs = in_packs(x, C) && in_packs(y, C);
    for_each_row(team, N, C, [&](long long row, int columns) {
        const scalar *x_row = x + row * C;
        scalar *y_row = y + row * C;
        const Scores scores = scores_of(team, x_row, columns, packs);
        team.columns_backwards(columns, packs, [&](auto n, int c) {
            auto pack = load<n.value>(x_row + c);
            for (scalar &value : pack.values) value = exp(value - scores.m) / scores.s;
            store(pack, y_row + c);
        });
    });
}

template <bool of_block>
__device__ void softmax_backward(const Team<of_block> &team, const scalar *dout, const scalar *y, scalar *dx,
                                 long long N, int C) {
    const bool packs = in_packs(dout, C) && in_packs(y, C) && in_packs(dx, C);
    for_each_row(team, N, C, [&](long long row, int columns) {
        const scalar *dout_row = dout + row * C, *y_row = y + row * C;
        scalar sum = 0;
        team.columns(columns, packs, [&](auto n, int c) {
            const auto d = load<n.value>(dout_row + c), y = load<n.value>(y_row + c);
            for (int i = 0; i < n.value; i++) sum += d.values[i] * y.values[i];
        });
        sum = team.joined(sum, Add());
        team.columns_backwards(columns, packs, [&](auto n, int c) {
            auto d = load<n.value>(dout_row + c);
            const auto y = load<n.value>(y_row + c);
            for (int i = 0; i < n.value; i++) d.values[i] = y.values[i] * (d.values[i] - sum);
            store(d, dx + row * C + c);
        });
    });
}

extern "C" __global__ void softmax_forward_by_lanes(const scalar *x, scalar *y,
                                                    long long N, long long C, long long lanes) {
    softmax_forward(Team<false>(lanes), x, y, N, C);
}
extern "C" __global__ void __launch_bounds__(most_threads, 1)
    softmax_forward_by_blocks(const scalar *x, scalar *y, long long N, long long C) {
    softmax_forward(Team<true>(), x, y, N, C);
}

extern "C" __global__ void softmax_backward_by_lanes(const scalar *dout, const scalar *y, scalar *dx,
                                                     long long N, long long C, long long lanes) {
    softmax_backward(Team<false>(lanes), dout, y, dx, N, C);
}
extern "C" __global__ void __launch_bounds__(most_threads, 1)
    softmax_backward_by_blocks(const scalar *dout, const scalar *y, scalar *dx, long long N, long long C) {
    softmax_backward(Team<true>(), dout, y, dx, N, C);
}
