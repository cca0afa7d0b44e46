// Functions that several sources share.

// exp sees -|x| only, so nothing overflows.
__device__ inline scalar sigmoid(scalar x) {
    const scalar e = exp(-fabs(x));
    return (x < 0 ? e : scalar(1)) / (1 + e);
}
