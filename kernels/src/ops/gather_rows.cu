// out[o] = x[row[o]]. One block for each output row.
// -DTX, -DTO: types of x and out, -DVEC: elements moved together.
#include "number.cuh"

struct Args {
    const u32 *rows;
    const u32 *from;
    const TX *x;
    TO *out;
    u32 cols;
    u32 x_stride;
    u32 out_stride;
    u32 pad;
};

extern "C" __global__ void gather_rows(Args a) {
    take_turn();
    const u32 o = blockIdx.x;
    if (o >= *a.rows) return;
    copy_row<VEC>(a.out + size_t(o) * a.out_stride, a.x + size_t(a.from[o]) * a.x_stride, a.cols);
}
