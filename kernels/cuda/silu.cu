#include "_elementwise.cuh"
#include "_math.cuh"

extern "C" __global__ void silu_forward(const input *x, scalar *out, long long n) {
    elementwise([](scalar x) { return x * sigmoid(x); }, n, out, x);
}

extern "C" __global__ void silu_backward(const scalar *dout, const scalar *x, scalar *dx, long long n) {
    auto f = [](scalar dout, scalar x) {
        const scalar s = sigmoid(x);
        return dout * (s * (1 + x * (1 - s)));
    };
    elementwise(f, n, dx, dout, x);
}
