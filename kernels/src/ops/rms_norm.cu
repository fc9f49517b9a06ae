// x += add, then out = x / sqrt(mean(x^2) + eps) * weight over runs of `width` columns.
// blockDim.x threads share a run, blockDim.y runs share a block; runs are counted row by row.
// -DTX, -DTA, -DTW, -DTO: types of x, add, weight, out; -DADD: 1 if there is something to add;
// -DVEC: elements moved together; -DTHREADS: blockDim.x, which depends on the width alone.
#include "number.cuh"

struct Args {
    const u32 *rows;
    TX *x;
    const TA *add;
    const TW *weight;
    TO *out;
    u32 width;
    u32 runs; // in a row
    u32 x_stride;
    u32 add_stride;
    u32 out_stride;
    float eps;
};

// The sum of a value over the threads of a run, in an order that THREADS alone decides.
__device__ __forceinline__ float run_sum(float x) {
    x = warp_sum(x);
#if THREADS > 32
    __shared__ float sums[THREADS / 32];
    if (threadIdx.x % 32 == 0) sums[threadIdx.x / 32] = x;
    __syncthreads();
    x = 0.0f;
#pragma unroll
    for (int w = 0; w < THREADS / 32; w++) x += sums[w];
#endif
    return x;
}

extern "C" __global__ void __launch_bounds__(THREADS > 128 ? THREADS : 128, 1) rms_norm(Args a) {
    const size_t run = size_t(blockIdx.x) * blockDim.y + threadIdx.y;
    const size_t row = run / a.runs;
    // Uniform over the warps of a run, and a run of several warps has the block to itself.
    if (row >= *a.rows) return;
    const size_t col = (run % a.runs) * a.width;
    TX *x = a.x + row * a.x_stride + col;

    float sum = 0.0f;
    for (u32 i = threadIdx.x * VEC; i < a.width; i += THREADS * VEC) {
        Pack<TX, VEC> p = load<VEC>(x + i);
#if ADD
        Pack<TA, VEC> q = load<VEC>(a.add + row * a.add_stride + col + i);
#pragma unroll
        for (int j = 0; j < VEC; j++) p.at[j] = Round<TX>::of(to_f32(p.at[j]) + to_f32(q.at[j]));
        store<VEC>(x + i, p);
#endif
#pragma unroll
        for (int j = 0; j < VEC; j++) sum = fmaf(to_f32(p.at[j]), to_f32(p.at[j]), sum);
    }
    const float scale = 1.0f / sqrtf(run_sum(sum) / float(a.width) + a.eps);

    // Each thread reads back what it wrote itself.
    for (u32 i = threadIdx.x * VEC; i < a.width; i += THREADS * VEC) {
        Pack<TX, VEC> p = load<VEC>(x + i);
        Pack<TW, VEC> w = load<VEC>(a.weight + i);
        Pack<TO, VEC> y;
#pragma unroll
        for (int j = 0; j < VEC; j++) y.at[j] = Round<TO>::of(to_f32(p.at[j]) * scale * to_f32(w.at[j]));
        store<VEC>(a.out + row * a.out_stride + col + i, y);
    }
}
