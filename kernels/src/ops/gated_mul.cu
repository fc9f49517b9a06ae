// out = act(x[.., ..N]) * x[.., N..]. One block for each row.
// -DTX, -DTO: types, -DVEC: elements moved together, -DGELU: 1 for the tanh form of GELU, 0 for SiLU.
#include "number.cuh"

struct Args {
    const u32 *rows;
    const TX *x;
    TO *out;
    u32 cols;
    u32 x_stride;
    u32 out_stride;
    u32 pad;
};

__device__ __forceinline__ float activate(float x) {
#if GELU
    // 0.5 x (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3)))
    float inner = 0.7978845608028654f * fmaf(0.044715f * x, x * x, x);
    return 0.5f * x * (1.0f + tanhf(inner));
#else
    return x / (1.0f + expf(-x));
#endif
}

extern "C" __global__ void gated_mul(Args a) {
    take_turn();
    const size_t r = blockIdx.x;
    if (r >= *a.rows) return;
    const TX *gate = a.x + r * a.x_stride;
    const TX *up = gate + a.cols;
    for (u32 i = threadIdx.x * VEC; i < a.cols; i += blockDim.x * VEC) {
        Pack<TX, VEC> g = load<VEC>(gate + i);
        Pack<TX, VEC> u = load<VEC>(up + i);
        Pack<TO, VEC> y;
#pragma unroll
        for (int j = 0; j < VEC; j++) y.at[j] = Round<TO>::of(activate(to_f32(g.at[j])) * to_f32(u.at[j]));
        store<VEC>(a.out + r * a.out_stride + i, y);
    }
}
