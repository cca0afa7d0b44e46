// half: float16 in memory, which computes as float. As bits, since cuda_fp16.h is not where every CuPy is.
struct half {
    unsigned short bits;

    __device__ operator float() const {
        float value;
#ifdef __CUDACC__
        asm("cvt.f32.f16 %0, %1;" : "=f"(value) : "h"(bits));
#else  // the simulator of the tests
        _Float16 narrow;
        memcpy(&narrow, &bits, sizeof bits);
        value = narrow;
#endif
        return value;
    }
};
