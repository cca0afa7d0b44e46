#include "_elementwise.cuh"
#include "_math.cuh"

extern "C" __global__ void sigmoid_forward(const input *x, scalar *out, long long n) {
    elementwise([](scalar x) { return sigmoid(x); }, n, out, x);
}

extern "C" __global__ void sigmoid_backward(const scalar *dout, const scalar *y, scalar *dx, long long n) {
    elementwise([](scalar dout, scalar y) { return dout * y * (1 - y); }, n, dx, dout, y);
}
