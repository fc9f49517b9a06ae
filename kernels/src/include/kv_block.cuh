// A block of keys or values in shared memory, and products of mma.sync with it.
//
// FP8 pages are copied as they are and widened between shared memory and the products, whose bits are those of wide pages
// that hold the same values.
#pragma once
#include "attention_tile.cuh"

#define KV_CHUNKS u32(DIM * sizeof(TP) / 16) // 16-byte chunks of a KV row
#define KV_STRIDE (KV_CHUNKS | 1) // an odd stride in chunks keeps ldmatrix free of bank conflicts

// Adds the products of columns 16 k and on of 16 queries and of the keys of a block.
__device__ __forceinline__ void multiply_keys(float (&s)[BLOCK / 8][4], const u32 (&qf)[4], const uint4 *keys, u32 k) {
    const u32 lane = threadIdx.x % 32;
#pragma unroll
    for (u32 n = 0; n < BLOCK / 8; n += 2) {
        u32 kf[2][2];
#if FP8
        // The 16 columns are one chunk.
        u32 two[2];
        ldmatrix_x2(two, keys + (n * 8 + lane % 16) * KV_STRIDE + k);
        widen_pairs<TQ>(two[0], kf[0][0], kf[0][1]);
        widen_pairs<TQ>(two[1], kf[1][0], kf[1][1]);
#else
        u32 four[4];
        ldmatrix_x4(four, keys + (n * 8 + lane / 16 * 8 + lane % 8) * KV_STRIDE + 2 * k + lane / 8 % 2);
        kf[0][0] = four[0], kf[0][1] = four[1], kf[1][0] = four[2], kf[1][1] = four[3];
#endif
        Mma<TQ>::m16n8k16(s[n], qf, kf[0]);
        Mma<TQ>::m16n8k16(s[n + 1], qf, kf[1]);
    }
}

// Adds the products of 16 rows of weights and of 8 VALUES columns, from one on, of a block of values.
template <int VALUES>
__device__ __forceinline__ void multiply_values(float (&acc)[VALUES][4], const u32 (&pf)[BLOCK / 16][4], const uint4 *values,
                                                u32 column) {
    const u32 lane = threadIdx.x % 32;
#pragma unroll
    for (u32 k = 0; k < BLOCK / 16; k++) {
        const uint4 *const row = values + (k * 16 + lane % 16) * KV_STRIDE + column * sizeof(TP) / 16;
#if FP8
#pragma unroll
        for (u32 n = 0; n < VALUES / 2; n += 2) {
            // Two chunks of 8 positions and of the next 8. More at once would not fit in registers.
            u32 four[4];
            if (n + 1 < VALUES / 2) {
                ldmatrix_x4_trans(four, row + n + lane / 16);
            } else {
                u32 two[2];
                ldmatrix_x2_trans(two, row + n);
                four[0] = two[0], four[1] = two[1];
            }
#pragma unroll
            for (u32 i = 0; i < 2 && n + i < VALUES / 2; i++) {
                u32 vf[2][2]; // Of the first 8 columns, and of the others.
                widen_pairs<TQ>(four[2 * i], vf[0][0], vf[1][0]);
                widen_pairs<TQ>(four[2 * i + 1], vf[0][1], vf[1][1]);
                Mma<TQ>::m16n8k16(acc[2 * (n + i)], pf[k], vf[0]);
                Mma<TQ>::m16n8k16(acc[2 * (n + i) + 1], pf[k], vf[1]);
            }
        }
#else
#pragma unroll
        for (u32 n = 0; n < VALUES; n += 2) {
            u32 vf[4];
            ldmatrix_x4_trans(vf, row + n + lane / 16);
            Mma<TQ>::m16n8k16(acc[n], pf[k], vf);
            Mma<TQ>::m16n8k16(acc[n + 1], pf[k], vf + 2);
        }
#endif
    }
}
