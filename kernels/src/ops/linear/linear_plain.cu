// out = x weight^T + bias, or out += the same, for any formats and shapes: one fmaf chain over ascending K for each
// element, then the bias, then what out holds.
// TILE x TILE threads make a TILE x TILE tile of out.
// -DTX, -DTB, -DTO: types of x, bias, out; -DTW: format of the weight; -DBIAS: 1 if there is a bias; -DADD: 1 to add to out;
// -DTILE.
#include "weight.cuh"

struct Args {
    const u32 *rows;
    const TX *x;
    const TW *weight;
    const TB *bias;
    TO *out;
    u32 n;
    u32 k;
    u32 x_stride;
    u32 out_stride;
};

#define DEEP 32

extern "C" __global__ void __launch_bounds__(TILE *TILE) linear_plain(Args a) {
    take_turn();
    __shared__ float xs[TILE][DEEP + 1];
    __shared__ float ws[TILE][DEEP + 1];
    const u32 rows = *a.rows;
    const u32 tiles_n = (a.n + TILE - 1) / TILE;
    const u32 m0 = blockIdx.x / tiles_n * TILE, n0 = blockIdx.x % tiles_n * TILE;
    if (m0 >= rows) return;
    const u32 m = m0 + threadIdx.y, n = n0 + threadIdx.x;
    float sum = 0.0f;
    for (u32 k0 = 0; k0 < a.k; k0 += DEEP) {
#pragma unroll
        for (u32 half = 0; half < DEEP; half += TILE) {
            const u32 k = k0 + half + threadIdx.x;
            const u32 w = n0 + threadIdx.y;
            xs[threadIdx.y][half + threadIdx.x] =
                m < rows && k < a.k ? to_f32(a.x[size_t(m) * a.x_stride + k]) : 0.0f;
            ws[threadIdx.y][half + threadIdx.x] =
                w < a.n && k < a.k ? widen<1>(weight_row(a.weight, w, a.k, a.n), k).at[0] : 0.0f;
        }
        __syncthreads();
#pragma unroll
        for (u32 k = 0; k < DEEP; k++) sum = fmaf(xs[threadIdx.y][k], ws[threadIdx.x][k], sum);
        __syncthreads();
    }
    if (m >= rows || n >= a.n) return;
#if BIAS
    sum += to_f32(a.bias[n]);
#endif
    TO *out = a.out + size_t(m) * a.out_stride + n;
#if ADD
    sum += to_f32(*out);
#endif
    *out = Round<TO>::of(sum);
}
