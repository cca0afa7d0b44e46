// What an optimizer does to one element. Formulas, what numbers are, and why states are flushed:
// kernels/ref/optimizer.py.

enum Rule { sgd, momentum, nesterov, adagrad, rmsprop, adam };

// The optimizer's numbers: decay and keep, then those of the rule in their order.
struct Numbers {
    scalar decay, keep, of_rule[4];
};

__device__ constexpr int states_of(int rule) { return rule == sgd ? 0 : rule == adam ? 2 : 1; }

// x, or 0 below 1024 times the smallest normal number; NaN stays NaN. Squares may be subnormal: they cost a GPU nothing.
__device__ inline scalar state(scalar x) {
    return fabs(x) < scalar(1024) * scalar(sizeof(scalar) == 4 ? 1.17549435e-38 : 2.2250738585072014e-308) ? scalar(0) : x;
}

// One step of parameter p, whose gradient is g, with its states: a is v, h or m, and b is Adam's v.
__device__ inline void apply(int rule, scalar &p, scalar g, scalar &a, scalar &b, const Numbers &by) {
    const scalar lr = by.of_rule[0], second = by.of_rule[1], third = by.of_rule[2], fourth = by.of_rule[3];
    if (by.decay != 0) g = g + by.decay * p;
    if (by.keep != 1) p *= by.keep;
    switch (rule) {
        case sgd: p -= lr * g; break;
        case momentum:
            a = state(second * a - lr * g);
            p += a;
            break;
        case nesterov:
            a = state(second * a - lr * g);
            p = p + third * a - fourth * g;
            break;
        case adagrad:
            a += g * g;
            p -= lr * g / (sqrt(a) + second);
            break;
        case rmsprop:
            a = state(second * a + third * g * g);
            p -= lr * g / (sqrt(a) + fourth);
            break;
        case adam:
            a = state(a + second * (g - a));
            b = state(b + third * (g * g - b));
            p -= lr * a / (sqrt(b) + fourth);
            break;
    }
}
