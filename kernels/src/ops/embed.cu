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
    copy_row<VEC>(a.out + size_t(t) * a.out_stride, a.table + size_t(token) * a.cols, a.cols);
}
