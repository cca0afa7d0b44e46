// place_t: the dtype of argmax.
#include "_images.cuh"

__device__ inline void forward(const scalar *x, long long images, Pooling p, scalar *out, place_t *argmax) {
    const int j = column_of_thread();
    if (j >= p.OW) return;
    const Range across = inside(j, p.pool_w, p.stride, p.pad, p.W);
    for (Rows at(images, p.OH); at.more(); at.next()) {
        const Range down = inside(at.row, p.pool_h, p.stride, p.pad, p.H);
        const long long top = at.image * p.H + at.row * p.stride - p.pad, left = (long long)j * p.stride - p.pad;
        scalar best = __int_as_float(0xff800000);  // -infinity; NVRTC has no name for it
        int best_at = down.begin * p.pool_w + across.begin;
        for (int k = down.begin; k < down.end; k++) {
            for (int l = across.begin; l < across.end; l++) {
                const scalar a = x[(top + k) * p.W + left + l];
                if (a > best || isnan(a)) {  // of equal ones the first, of NaNs the last
                    best = a;
                    best_at = k * p.pool_w + l;
                }
            }
        }
        const long long i = (at.image * p.OH + at.row) * p.OW + j;
        out[i] = best;
        argmax[i] = (place_t)best_at;
    }
}

__device__ inline void backward(const scalar *dout, const place_t *argmax, long long images, Pooling p, scalar *dx) {
    const int column = column_of_thread();
    if (column >= p.W) return;
    const Range across = windows_of(column, p.pool_w, p.stride, p.pad, p.OW);
    for (Rows at(images, p.H); at.more(); at.next()) {
        const Range down = windows_of(at.row, p.pool_h, p.stride, p.pad, p.OH);
        scalar sum = 0;
        for (int i = down.begin; i < down.end; i++) {
            for (int j = across.begin; j < across.end; j++) {
                const long long window = (at.image * p.OH + i) * p.OW + j;
                const int here = (at.row + p.pad - i * p.stride) * p.pool_w + column + p.pad - j * p.stride;
                if ((int)argmax[window] == here) sum += dout[window];
            }
        }
        dx[(at.image * p.H + at.row) * p.W + column] = sum;
    }
}

extern "C" __global__ void __launch_bounds__(256)
    max_pooling_forward(const scalar *x, long long images, long long H, long long W, long long pool_h, long long pool_w,
                        long long stride, long long pad, long long OH, long long OW, scalar *out, place_t *argmax) {
    const Pooling p = {int(H), int(W), int(pool_h), int(pool_w), int(stride), int(pad), int(OH), int(OW)};
    if (halves(p))
        forward(x, images, as_halves(p), out, argmax);
    else
        forward(x, images, p, out, argmax);
}

extern "C" __global__ void __launch_bounds__(256)
    max_pooling_backward(const scalar *dout, const place_t *argmax, long long images, long long H, long long W,
                         long long pool_h, long long pool_w, long long stride, long long pad, long long OH,
                         long long OW, scalar *dx) {
    const Pooling p = {int(H), int(W), int(pool_h), int(pool_w), int(stride), int(pad), int(OH), int(OW)};
    if (halves(p))
        backward(dout, argmax, images, as_halves(p), dx);
    else
        backward(dout, argmax, images, p, dx);
}
