// c[m x n] = a[m x k] b[n x k]^T with bf16 inputs and f32 sums: 64 x 64 tiles, K in steps of 32 through a ring of
// STAGES tiles, four warps of 32 x 32. k is a multiple of 32; m and n are free.
#include "ptx.cuh"

#define TILE 64
#define STEP 32
#ifndef STAGES
#define STAGES 3
#endif
#define PITCH (STEP + 8)   // in elements: rows of 80 bytes keep ldmatrix free of bank conflicts

static __device__ __forceinline__ void load(unsigned short* tile, const unsigned short* from, int rows, int row0, int k, int k0) {
    for (int i = threadIdx.x; i < TILE * STEP / 8; i += blockDim.x) {
        int row = i / (STEP / 8), column = i % (STEP / 8) * 8;
        bool valid = row0 + row < rows;
        cp_async_16_or_zero(tile + row * PITCH + column, from + (size_t)(valid ? row0 + row : 0) * k + k0 + column, valid);
    }
}

extern "C" __global__ void __launch_bounds__(128) tile_product(const unsigned short* a, const unsigned short* b, float* c, int m, int n, int k) {
    extern __shared__ __align__(16) unsigned short ring[];
    unsigned short* as = ring;
    unsigned short* bs = ring + STAGES * TILE * PITCH;
    int row0 = blockIdx.x * TILE, column0 = blockIdx.y * TILE;
    int warp = threadIdx.x / 32, lane = threadIdx.x % 32, wr = warp / 2 * 32, wc = warp % 2 * 32;
    float sums[2][4][4] = {};
    int steps = k / STEP;
    for (int s = 0; s < STAGES - 1; ++s) {
        if (s < steps) {
            load(as + s * TILE * PITCH, a, m, row0, k, s * STEP);
            load(bs + s * TILE * PITCH, b, n, column0, k, s * STEP);
        }
        cp_async_commit();
    }
    for (int s = 0; s < steps; ++s) {
#ifndef NO_WAIT
        cp_async_wait<STAGES - 2>();
#endif
#ifndef NO_BARRIER
        __syncthreads();
#endif
        int next = s + STAGES - 1;
        if (next < steps) {
            load(as + next % STAGES * TILE * PITCH, a, m, row0, k, next * STEP);
            load(bs + next % STAGES * TILE * PITCH, b, n, column0, k, next * STEP);
        }
        cp_async_commit();
        const unsigned short* at = as + s % STAGES * TILE * PITCH;
        const unsigned short* bt = bs + s % STAGES * TILE * PITCH;
        for (int kk = 0; kk < STEP; kk += 16) {
            unsigned fa[2][4], fb[4][2];
            for (int i = 0; i < 2; ++i) ldmatrix_x4(fa[i], at + (wr + 16 * i + lane % 16) * PITCH + kk + lane / 16 * 8);
            for (int j = 0; j < 4; ++j) ldmatrix_x2(fb[j], bt + (wc + 8 * j + lane % 8) * PITCH + kk + lane / 8 % 2 * 8);
            for (int i = 0; i < 2; ++i)
                for (int j = 0; j < 4; ++j) mma_m16n8k16_bf16(sums[i][j], fa[i], fb[j]);
        }
    }
    for (int i = 0; i < 2; ++i)
        for (int j = 0; j < 4; ++j)
            for (int e = 0; e < 4; ++e) {
                int row = row0 + wr + 16 * i + lane / 4 + e / 2 * 8, column = column0 + wc + 8 * j + lane % 4 * 2 + e % 2;
                if (row < m && column < n) c[(size_t)row * n + column] = sums[i][j][e];
            }
}
