// x += add, then out = x / sqrt(mean(x^2) + eps) * weight over runs of `width` columns.
// blockDim.x threads share a run, blockDim.y runs share a block; runs are counted row by row.
// -DTX, -DTA, -DTW, -DTO: types of x, add, weight, out; -DADD: 1 if there is something to add;
// -DVEC: elements moved together; -DTHREADS: blockDim.x, which depends on the width alone; -DPACKS: how many VEC elements
// of a run a thread keeps in registers: all of its own, or 0.
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

// Adds to what x holds at `i`, and its square to the sum.
__device__ __forceinline__ Pack<TX, VEC> take(TX *x, const TA *add, u32 i, float &sum) {
    Pack<TX, VEC> p = load<VEC>(x + i);
#if ADD
    Pack<TA, VEC> q = load<VEC>(add + i);
#pragma unroll
    for (int j = 0; j < VEC; j++) p.at[j] = Round<TX>::of(to_f32(p.at[j]) + to_f32(q.at[j]));
    store<VEC>(x + i, p);
#endif
#pragma unroll
    for (int j = 0; j < VEC; j++) sum = fmaf(to_f32(p.at[j]), to_f32(p.at[j]), sum);
    return p;
}

__device__ __forceinline__ void give(TO *out, const Pack<TX, VEC> &p, const Pack<TW, VEC> &w, float scale) {
    Pack<TO, VEC> y;
#pragma unroll
    for (int j = 0; j < VEC; j++) y.at[j] = Round<TO>::of(to_f32(p.at[j]) * scale * to_f32(w.at[j]));
    store<VEC>(out, y);
}

extern "C" __global__ void __launch_bounds__(THREADS > 128 ? THREADS : 128, 1) rms_norm(Args a) {
    let_next_kernel_start();
    const u32 first = threadIdx.x * VEC, step = THREADS * VEC;
#if PACKS
    // Weights are constant.
    Pack<TX, VEC> p[PACKS];
    Pack<TW, VEC> w[PACKS];
#pragma unroll
    for (int n = 0; n < PACKS; n++)
        if (first + n * step < a.width) w[n] = load<VEC>(a.weight + first + n * step);
#endif
    const u32 rows = *a.rows; // An input of the step.
    wait_for_kernels_before();
    const size_t run = size_t(blockIdx.x) * blockDim.y + threadIdx.y;
    const size_t row = run / a.runs;
    // Uniform over the warps of a run, and a run of several warps has the block to itself.
    if (row >= rows) return;
    const size_t col = (run % a.runs) * a.width;
    TX *const x = a.x + row * a.x_stride + col;
    TO *const out = a.out + row * a.out_stride + col;
    const TA *const add = ADD ? a.add + row * a.add_stride + col : nullptr;

    float sum = 0.0f;
#if PACKS
#pragma unroll
    for (int n = 0; n < PACKS; n++)
        if (first + n * step < a.width) p[n] = take(x, add, first + n * step, sum);
#else
    for (u32 i = first; i < a.width; i += step) take(x, add, i, sum);
#endif
    const float scale = 1.0f / sqrtf(run_sum(sum) / float(a.width) + a.eps);
#if PACKS
#pragma unroll
    for (int n = 0; n < PACKS; n++)
        if (first + n * step < a.width) give(out + first + n * step, p[n], w[n], scale);
#else
    // Each thread reads back what it wrote itself.
    for (u32 i = first; i < a.width; i += step) give(out + i, load<VEC>(x + i), load<VEC>(a.weight + i), scale);
#endif
}
