#include "_elementwise.cuh"

extern "C" __global__ void tanh_forward(const input *x, scalar *out, long long n) {
    elementwise([](scalar x) { return tanh(x); }, n, out, x);
}

extern "C" __global__ void tanh_backward(const scalar *dout, const scalar *y, scalar *dx, long long n) {
    elementwise([](scalar dout, scalar y) { return dout * (1 - y * y); }, n, dx, dout, y);
}
