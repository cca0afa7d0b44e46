#include "_elementwise.cuh"

extern "C" __global__ void softplus_forward(const input *x, scalar *out, long long n) {
    elementwise([](scalar x) { return (x > 0 ? x : scalar(0)) + log1p(exp(-fabs(x))); }, n, out, x);
}

extern "C" __global__ void softplus_backward(const scalar *dout, const scalar *y, scalar *dx, long long n) {
    elementwise([](scalar dout, scalar y) { return -dout * expm1(-y); }, n, dx, dout, y);
}
