// Walks over images for pooling: a thread an element of what is written, so that neighbours read what lies together,
// and no two add to one place. It keeps its column and strides over the rows of all images, without a division.

struct Rows {
    long long image, images;
    int row, height, image_step, row_step;

    __device__ Rows(long long images, int height) : images(images), height(height) {
        const long long first = blockIdx.x * (long long)blockDim.y + threadIdx.y,
                        step = gridDim.x * (long long)blockDim.y;
        image = first / height;
        row = (int)(first - image * height);
        image_step = (int)(step / height);
        row_step = (int)(step - (long long)image_step * height);
    }
    __device__ bool more() const { return image < images; }
    __device__ void next() {
        image += image_step;
        row += row_step;
        if (row >= height) {
            row -= height;
            image++;
        }
    }
};

__device__ inline int column_of_thread() { return blockIdx.y * blockDim.x + threadIdx.x; }

// Sizes of images x (H, W), of windows, and of results (OH, OW).
struct Pooling {
    int H, W, pool_h, pool_w, stride, pad, OH, OW;
};

// The most frequent windows, 2 × 2 at a stride of 2, with sizes that are known when this is compiled.
__device__ inline bool halves(const Pooling &p) { return p.pool_h == 2 && p.pool_w == 2 && p.stride == 2; }
__device__ inline Pooling as_halves(const Pooling &p) { return {p.H, p.W, 2, 2, 2, p.pad, p.OH, p.OW}; }

// Begin to end: of the window that is result i, what lies in the image; or the windows that an element of it lies in.
struct Range {
    int begin, end;
};
__device__ inline Range inside(int i, int pool, int stride, int pad, int size) {
    return {max(0, pad - i * stride), min(pool, size + pad - i * stride)};
}
__device__ inline Range windows_of(int element, int pool, int stride, int pad, int results) {
    const int at = element + pad;
    return {at < pool ? 0 : (at - pool) / stride + 1, min(results, at / stride + 1)};
}
