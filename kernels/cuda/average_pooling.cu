#include "_images.cuh"

__device__ inline void forward(const scalar *x, long long images, Pooling p, scalar *out) {
    const int j = column_of_thread();
    if (j >= p.OW) return;
    const Range across = inside(j, p.pool_w, p.stride, p.pad, p.W);
    const scalar places = p.pool_h * p.pool_w;
    for (Rows at(images, p.OH); at.more(); at.next()) {
        const Range down = inside(at.row, p.pool_h, p.stride, p.pad, p.H);
        const long long top = at.image * p.H + at.row * p.stride - p.pad, left = (long long)j * p.stride - p.pad;
        scalar sum = 0;
        for (int k = down.begin; k < down.end; k++)
            for (int l = across.begin; l < across.end; l++) sum += x[(top + k) * p.W + left + l];
        out[(at.image * p.OH + at.row) * p.OW + j] = sum / places;
    }
}

__device__ inline void backward(const scalar *dout, long long images, Pooling p, scalar *dx) {
    const int column = column_of_thread();
    if (column >= p.W) return;
    const Range across = windows_of(column, p.pool_w, p.stride, p.pad, p.OW);
    const scalar places = p.pool_h * p.pool_w;
    for (Rows at(images, p.H); at.more(); at.next()) {
        const Range down = windows_of(at.row, p.pool_h, p.stride, p.pad, p.OH);
        scalar sum = 0;
        for (int i = down.begin; i < down.end; i++)
            for (int j = across.begin; j < across.end; j++) sum += dout[(at.image * p.OH + i) * p.OW + j] / places;
        dx[(at.image * p.H + at.row) * p.W + column] = sum;
    }
}

extern "C" __global__ void __launch_bounds__(256)
    average_pooling_forward(const scalar *x, long long images, long long H, long long W, long long pool_h,
                            long long pool_w, long long stride, long long pad, long long OH, long long OW,
                            scalar *out) {
    const Pooling p = {int(H), int(W), int(pool_h), int(pool_w), int(stride), int(pad), int(OH), int(OW)};
    if (halves(p))
        forward(x, images, as_halves(p), out);
    else
        forward(x, images, p, out);
}

extern "C" __global__ void __launch_bounds__(256)
    average_pooling_backward(const scalar *dout, long long images, long long H, long long W, long long pool_h,
                             long long pool_w, long long stride, long long pad, long long OH, long long OW,
                             scalar *dx) {
    const Pooling p = {int(H), int(W), int(pool_h), int(pool_w), int(stride), int(pad), int(OH), int(OW)};
    if (halves(p))
        backward(dout, images, as_halves(p), dx);
    else
        backward(dout, images, p, dx);
}
