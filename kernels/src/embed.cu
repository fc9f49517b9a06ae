// out[t] = table[token[t]]. One block for each token.
// -DTW: type of the table, -DTO: type of out, -DVEC: elements moved together.
#include "number.cuh"

struct Args {
    const u32 *rows;
    const u32 *tokens;
    const u32 *last;
    const TW *table;
    TO *out;
    u32 cols;
    u32 out_stride;
};

extern "C" __global__ void embed(Args a) {
    const u32 t = blockIdx.x;
    if (t >= *a.rows) return;
    u32 token = a.tokens[t];
    // The upper bit marks a reference to the last token of a slot.
    if (token >> 31) token = a.last[token & 0x7fffffffu];
    const TW *from = a.table + size_t(token) * a.cols;
    TO *to = a.out + size_t(t) * a.out_stride;
    for (u32 i = threadIdx.x * VEC; i < a.cols; i += blockDim.x * VEC) {
        Pack<TW, VEC> x = load<VEC>(from + i);
        Pack<TO, VEC> y;
#pragma unroll
        for (int j = 0; j < VEC; j++) y.at[j] = Round<TO>::of(to_f32(x.at[j]));
        store<VEC>(to + i, y);
    }
}
