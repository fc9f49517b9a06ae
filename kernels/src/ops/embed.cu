// out[t] = table[token[t]] * scale. One block for each token.
// -DTW: format of the table, -DTO: type of out, -DVEC: elements moved together.
#include "weight.cuh"

struct Args {
    const u32 *rows;
    const u32 *tokens;
    const u32 *last;
    const TW *table;
    TO *out;
    u32 cols;
    u32 out_stride;
    float scale;
    u32 table_rows;
};

extern "C" __global__ void embed(Args a) {
    take_turn();
    const u32 t = blockIdx.x;
    if (t >= *a.rows) return;
    u32 token = a.tokens[t];
    // The upper bit marks a reference to the last token of a sequence slot.
    if (token >> 31) token = a.last[token & 0x7fffffffu];
    const auto row = weight_row(a.table, token, a.cols, a.table_rows);
    for (u32 i = threadIdx.x * VEC; i < a.cols; i += blockDim.x * VEC) {
        const Pack<float, VEC> x = widen<VEC>(row, i);
        Pack<TO, VEC> y;
#pragma unroll
        for (int j = 0; j < VEC; j++) y.at[j] = Round<TO>::of(x.at[j] * a.scale);
        store<VEC>(a.out + size_t(t) * a.out_stride + i, y);
    }
}
