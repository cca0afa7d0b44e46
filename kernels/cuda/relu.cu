#include "_elementwise.cuh"

extern "C" __global__ void relu_forward(const input *x, scalar *out, long long n) {
    elementwise([](scalar x) { return x <= 0 ? scalar(0) : x; }, n, out, x);  // in this way NaN stays NaN
}

extern "C" __global__ void relu_backward(const scalar *dout, const scalar *y, scalar *dx, long long n) {
    elementwise([](scalar dout, scalar y) { return y <= 0 ? scalar(0) : dout; }, n, dx, dout, y);
}
