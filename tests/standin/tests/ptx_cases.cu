// The parts of ptx.cuh that tile_product.cu does not use.
#include "ptx.cuh"
// One 16 x 8 x 16 product from memory without ldmatrix, in f16, and the transposed load of what ldmatrix_x4 loads.
extern "C" __global__ void f16_product(const unsigned short* a, const unsigned short* b, float* c) {
    int g = threadIdx.x / 4, t = threadIdx.x % 4;
    unsigned fa[4], fb[2];
    for (int i = 0; i < 4; ++i) fa[i] = *(const unsigned*)(a + (g + i % 2 * 8) * 16 + 2 * t + i / 2 * 8);
    for (int i = 0; i < 2; ++i) fb[i] = *(const unsigned*)(b + g * 16 + 2 * t + i * 8);
    float s[4] = {};
    mma_m16n8k16_f16(s, fa, fb);
    for (int i = 0; i < 4; ++i) c[(g + i / 2 * 8) * 8 + 2 * t + i % 2] = s[i];
}
extern "C" __global__ void transposed(const unsigned short* x, unsigned* wrong) {
    __shared__ __align__(16) unsigned short tile[32][8];
    for (int i = threadIdx.x; i < 256; i += 32) tile[i / 8][i % 8] = x[i];
    __syncthreads();
    unsigned r[4], two[2];
    ldmatrix_x4_trans(r, tile[threadIdx.x]);
    ldmatrix_x2_trans(two, tile[threadIdx.x % 16]);
    int g = threadIdx.x / 4, t = threadIdx.x % 4;
    for (int i = 0; i < 4; ++i) {
        unsigned expected = tile[8 * i + 2 * t][g] | (unsigned)tile[8 * i + 2 * t + 1][g] << 16;
        if (r[i] != expected || (i < 2 && two[i] != expected)) atomicAdd(wrong, 1u);
    }
}
extern "C" __global__ void convert(const float* x, unsigned* half, unsigned* brain, float* back, int n) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= n) return;
    half[i] = floats_to_f16x2(x[i], -x[i]);
    brain[i] = floats_to_bf16x2(x[i], -x[i]);
    back[i] = f16_to_float((unsigned short)i);
}
