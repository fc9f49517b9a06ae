// x = cap * tanh(x / cap), in place. One block for each row.
// -DTX: type of x, -DVEC: elements moved together.
#include "number.cuh"

struct Args {
    const u32 *rows;
    TX *x;
    u32 cols;
    u32 stride;
    float cap;
    u32 pad;
};

extern "C" __global__ void soft_cap(Args a) {
    take_turn();
    const size_t r = blockIdx.x;
    if (r >= *a.rows) return;
    for (u32 i = threadIdx.x * VEC; i < a.cols; i += blockDim.x * VEC) {
        TX *at = a.x + r * a.stride + i;
        const Pack<TX, VEC> x = load<VEC>(at);
        Pack<TX, VEC> y;
#pragma unroll
        for (int j = 0; j < VEC; j++) y.at[j] = Round<TX>::of(a.cap * tanhf(to_f32(x.at[j]) / a.cap));
        store<VEC>(at, y);
    }
}
