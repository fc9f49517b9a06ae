// out = a + b. One block for each row.
// -DTA, -DTB, -DTO: types, -DVEC: elements moved together.
#include "number.cuh"

struct Args {
    const u32 *rows;
    const TA *a;
    const TB *b;
    TO *out;
    u32 cols;
    u32 a_stride;
    u32 b_stride;
    u32 out_stride;
};

extern "C" __global__ void add(Args a) {
    take_turn();
    const size_t r = blockIdx.x;
    if (r >= *a.rows) return;
    for (u32 i = threadIdx.x * VEC; i < a.cols; i += blockDim.x * VEC) {
        Pack<TA, VEC> x = load<VEC>(a.a + r * a.a_stride + i);
        Pack<TB, VEC> y = load<VEC>(a.b + r * a.b_stride + i);
        Pack<TO, VEC> z;
#pragma unroll
        for (int j = 0; j < VEC; j++) z.at[j] = Round<TO>::of(to_f32(x.at[j]) + to_f32(y.at[j]));
        store<VEC>(a.out + r * a.out_stride + i, z);
    }
}
