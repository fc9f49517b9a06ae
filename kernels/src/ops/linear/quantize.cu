// Rows of x in e4m3, each times a scale that is a function of the row alone: its greatest magnitude over 448. One block for
// each row. Values that are no numbers stay so, and make NaN of what is finite in the row if it holds an infinity.
// -DTX: type of x (bf16 or f16).
#include "number.cuh"
#include "ptx_sm90.cuh"

#define THREADS 256

struct Args {
    const u32 *rows;
    const TX *x;
    e4m3 *elements;
    float *scales;
    u32 cols;                             // a multiple of 8
    u32 x_stride;
    u32 pitch;                            // of elements: a multiple of 16; what is beyond cols becomes zero
    u32 pad;
};

extern "C" __global__ void __launch_bounds__(THREADS) quantize(Args a) {
    take_turn();
    __shared__ float warps[THREADS / 32];
    const size_t r = blockIdx.x;
    if (r >= *a.rows) return;
    const TX *x = a.x + r * a.x_stride;
    float greatest = 0.0f;
    for (u32 i = threadIdx.x * 8; i < a.cols; i += THREADS * 8) {
        const Pack<TX, 8> eight = load<8>(x + i);
#pragma unroll
        for (int j = 0; j < 8; j++) greatest = fmaxf(greatest, fabsf(to_f32(eight.at[j])));
    }
    greatest = warp_max(greatest);
    if (threadIdx.x % 32 == 0) warps[threadIdx.x / 32] = greatest;
    __syncthreads();
#pragma unroll
    for (u32 w = 0; w < THREADS / 32; w++) greatest = fmaxf(greatest, warps[w]);
    const float inverse = greatest > 0.0f ? 448.0f / greatest : 0.0f;
    if (threadIdx.x == 0) a.scales[r] = greatest / 448.0f;
    for (u32 i = threadIdx.x * 8; i < a.pitch; i += THREADS * 8) {
        Pack<u32, 2> eight = {{0, 0}};
        if (i < a.cols) {
            const Pack<TX, 8> from = load<8>(x + i);
            float v[8];
#pragma unroll
            for (int j = 0; j < 8; j++) v[j] = to_f32(from.at[j]) * inverse;
#pragma unroll
            for (int j = 0; j < 2; j++)
                eight.at[j] = floats_to_e4m3x2(v[4 * j], v[4 * j + 1]) | floats_to_e4m3x2(v[4 * j + 2], v[4 * j + 3]) << 16;
        }
        store<2>(reinterpret_cast<u32 *>(a.elements + r * a.pitch + i), eight);
    }
}
