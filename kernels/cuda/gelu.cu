#include "_elementwise.cuh"
#include "_math.cuh"

// P = (1 + erf(x / √2)) / 2; erfc keeps the digits where P is next to 0.
__device__ inline scalar below(scalar x) { return scalar(0.5) * erfc(scalar(-0.7071067811865476) * x); }

// u = √(2/π) · (x + 0.044715 · x³), twice: (1 + tanh u) / 2 = sigmoid(2u), which keeps its digits next to 0.
__device__ inline scalar twice_u(scalar x) { return scalar(1.5957691216057308) * (x + scalar(0.044715) * (x * x * x)); }

extern "C" __global__ void gelu_forward(const input *x, scalar *out, long long n) {
    elementwise([](scalar x) { return x * below(x); }, n, out, x);
}

extern "C" __global__ void gelu_backward(const scalar *dout, const scalar *x, scalar *dx, long long n) {
    auto f = [](scalar dout, scalar x) {
        const scalar density = scalar(0.3989422804014327) * exp(scalar(-0.5) * (x * x));
        return dout * (below(x) + x * density);
    };
    elementwise(f, n, dx, dout, x);
}

extern "C" __global__ void gelu_tanh_forward(const input *x, scalar *out, long long n) {
    elementwise([](scalar x) { return x * sigmoid(twice_u(x)); }, n, out, x);
}

extern "C" __global__ void gelu_tanh_backward(const scalar *dout, const scalar *x, scalar *dx, long long n) {
    auto f = [](scalar dout, scalar x) {
        const scalar square = fmin(x * x, scalar(1e4)); // where s · (1 - s) is 0 for long; infinity times that is NaN
        const scalar s = sigmoid(twice_u(x)), slope = scalar(1.5957691216057308) * (1 + scalar(3 * 0.044715) * square);
        return dout * (s + x * (s * (1 - s) * slope));
    };
    elementwise(f, n, dx, dout, x);
}
