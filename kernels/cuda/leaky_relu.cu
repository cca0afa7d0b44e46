#include "_elementwise.cuh"

extern "C" __global__ void leaky_relu_forward(const input *x, double alpha, scalar *out, long long n) {
    elementwise([a = scalar(alpha)](scalar x) { return x < 0 ? a * x : x; }, n, out, x);
}

extern "C" __global__ void leaky_relu_backward(const scalar *dout, const scalar *y, double alpha, scalar *dx,
                                               long long n) {
    elementwise([a = scalar(alpha)](scalar dout, scalar y) { return y <= 0 ? a * dout : dout; }, n, dx, dout, y);
}
