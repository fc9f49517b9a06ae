// out = x weight^T + bias, or out += the same, on tensor cores (mma.sync m16n8k16).
//
// A block makes a BM x BN tile of out. K runs in steps of 16, ascending, into one accumulator for each
// element, whatever the tile shape: the shape never changes a bit. Tiles of x and weight stream through
// STAGES slots of shared memory; 16-byte chunks of a 128-byte row are permuted by (row & 7) so that
// neither cp.async nor ldmatrix meets a bank conflict.
//
// FP8 weights are widened to the type of x, which takes e4m3 elements as they are: between shared memory and the products.
// A row's scale multiplies the sum; a block's multiplies its elements, which then round to the type of x. Where the card
// multiplies e4m3 numbers, x has been quantised, and the elements of both factors go in pairs, which are as wide as those
// of other types; the scales of both rows multiply the sum.
//
// -DTX: type of x (bf16, f16 or e4m3x2); -DTW: format of the weight, that of x or FP8; -DFP8: 0, 1 widened with scales of
// rows, 2 with scales of blocks, 3 if x is e4m3x2; -DTB, -DTO: types of bias and out; -DBIAS: 1 with a bias;
// -DPAIR: 1 if pairs of out are aligned; -DADD: 1 to add what out holds, the residual, last;
// -DBM, -DBN: the tile; -DWM, -DWN: warps along each; -DSTAGES.
#include "weight.cuh"

#define BK 64                     // columns of a slot: 128 bytes
#define CHUNKS 8                  // 16-byte chunks of a row of x in a slot
#define WIDENED (FP8 == 1 || FP8 == 2)
#define W_CHUNKS (WIDENED ? 4 : 8) // and of a row of weight
#define THREADS (32 * WM * WN)
#define TM (BM / WM / 16)         // 16-row fragments of a warp
#define TN (BN / WN / 8)          // 8-column fragments of a warp
#define GROUP 8                   // row tiles that share their weights in L2

struct Args {
    const u32 *rows;
    const TX *x;
    const TW *weight;
    const TB *bias;
    TO *out;
    const float *x_scales;
    u32 n;
    u32 k;
    u32 x_stride;
    u32 out_stride;
};

// A slot holds BM rows of x, then BN rows of weight.
#define SLOT (BM * CHUNKS + BN * W_CHUNKS)

__device__ __forceinline__ u32 place(u32 row, u32 chunk) { return row * CHUNKS + (chunk ^ (row & 7)); }

// Starts the copies of K columns k0 .. k0 + BK of `ROWS` rows; what is outside becomes zero.
template <int ROWS>
__device__ __forceinline__ void fetch(uint4 *slot, const TX *from, u32 stride, u32 first, u32 rows, u32 k0, u32 k) {
#pragma unroll
    for (u32 i = 0; i < ROWS * CHUNKS; i += THREADS) {
        const u32 c = i + threadIdx.x;
        if (ROWS * CHUNKS % THREADS != 0 && c >= ROWS * CHUNKS) break;
        const u32 row = c / CHUNKS, chunk = c % CHUNKS;
        const bool inside = first + row < rows && k0 + chunk * 8 < k;
        const TX *at = inside ? from + size_t(first + row) * stride + k0 + chunk * 8 : from;
        cp_async_16_or_zero(slot + place(row, chunk), at, inside);
    }
}

#if WIDENED
// Rows of 4 chunks, permuted so that those of 8 rows lie in different banks.
__device__ __forceinline__ u32 fp8_place(u32 row, u32 chunk) { return row * W_CHUNKS + (chunk ^ (row / 2 & 3)); }

// Starts the copies of K columns k0 .. k0 + BK of BN rows; what is outside becomes zero.
__device__ __forceinline__ void fetch_fp8(uint4 *slot, const TW *from, u32 pitch, u32 first, u32 rows, u32 k0) {
#pragma unroll
    for (u32 i = 0; i < BN * W_CHUNKS; i += THREADS) {
        const u32 c = i + threadIdx.x;
        if (BN * W_CHUNKS % THREADS != 0 && c >= BN * W_CHUNKS) break;
        const u32 row = c / W_CHUNKS, chunk = c % W_CHUNKS;
        const bool inside = first + row < rows && k0 + chunk * 16 < pitch;
        const TW *at = inside ? from + size_t(first + row) * pitch + k0 + chunk * 16 : from;
        cp_async_16_or_zero(slot + fp8_place(row, chunk), at, inside);
    }
}

// Two elements in the type of x.
__device__ __forceinline__ u32 widen_pair(u32 two, float scale) {
    float low = e4m3_to_float(two & 0xff), high = e4m3_to_float(two >> 8);
#if FP8 == 2
    low *= scale, high *= scale;
#endif
    return Round<TX>::pair(low, high);
}
#endif

extern "C" __global__ void __launch_bounds__(THREADS) linear(Args a) {
    take_turn();
    extern __shared__ uint4 slots[];
    const u32 rows = *a.rows;
    // Blocks of GROUP row tiles walk over all column tiles, so that a wave shares both operands.
    const u32 tiles_n = (a.n + BN - 1) / BN, tiles_m = gridDim.x / tiles_n;
    const u32 group = blockIdx.x / (GROUP * tiles_n), inside = blockIdx.x % (GROUP * tiles_n);
    const u32 height = min(tiles_m - group * GROUP, u32(GROUP));
    const u32 m0 = (group * GROUP + inside % height) * BM, n0 = inside / height * BN;
    if (m0 >= rows) return;

    const u32 lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    const u32 warp_m = warp / WN * (BM / WM), warp_n = warp % WN * (BN / WN);
    const u32 steps = (a.k + BK - 1) / BK;
    float acc[TM][TN][4];
#pragma unroll
    for (int i = 0; i < TM; i++)
#pragma unroll
        for (int j = 0; j < TN; j++)
#pragma unroll
            for (int e = 0; e < 4; e++) acc[i][j][e] = 0.0f;

    auto fetch_step = [&](u32 step) {
        if (step < steps) {
            uint4 *slot = slots + step % STAGES * SLOT;
            fetch<BM>(slot, a.x, a.x_stride, m0, rows, step * BK, a.k);
#if WIDENED
            fetch_fp8(slot + BM * CHUNKS, a.weight, fp8_pitch(a.k), n0, a.n, step * BK);
#else
            fetch<BN>(slot + BM * CHUNKS, a.weight, a.k, n0, a.n, step * BK, a.k);
#endif
        }
        cp_async_commit();
    };
#pragma unroll
    for (u32 s = 0; s < STAGES - 1; s++) fetch_step(s);

#if WIDENED
    const float *scales = fp8_scales(a.weight, a.k, a.n);
#elif FP8
    const float *scales = reinterpret_cast<const float *>(a.weight + size_t(a.n) * a.k);
#endif
    // The operands of one step of 16 columns, and those of the next, which load while the first are multiplied.
    u32 af[2][TM][4], bf[2][TN / 2][4];
    auto load_step = [&](u32 step, u32 k) {
        const uint4 *xs = slots + step % STAGES * SLOT;
        const uint4 *ws = xs + BM * CHUNKS;
#pragma unroll
        for (int i = 0; i < TM; i++)
            ldmatrix_x4(af[k % 2][i], xs + place(warp_m + i * 16 + lane % 16, 2 * k + lane / 16));
#if WIDENED
#pragma unroll
        for (int j = 0; j < TN; j++) {
            // Columns 2 t and 2 t + 1 of the 16, and the same 8 on, of row g: what ldmatrix gives of wider elements.
            const u32 row = warp_n + j * 8 + lane / 4;
            const u16 *two = reinterpret_cast<const u16 *>(ws + fp8_place(row, k)) + lane % 4;
            float scale = 1.0f;
#if FP8 == 2
            if (n0 + row < a.n) scale = scales[size_t(n0 + row) * TW::scales(a.k) + TW::scale_of(step * BK)];
#endif
            bf[k % 2][j / 2][j % 2 * 2] = widen_pair(two[0], scale);
            bf[k % 2][j / 2][j % 2 * 2 + 1] = widen_pair(two[4], scale);
        }
#else
#pragma unroll
        for (int j = 0; j < TN / 2; j++)
            ldmatrix_x4(
                bf[k % 2][j], ws + place(warp_n + j * 16 + lane / 16 * 8 + lane % 8, 2 * k + lane / 8 % 2));
#endif
    };
    cp_async_wait<STAGES - 2>();
    __syncthreads();
    load_step(0, 0);

    for (u32 step = 0; step < steps; step++) {
#pragma unroll
        for (u32 k = 0; k < BK / 16; k++) {
            if (k + 1 < BK / 16) {
                load_step(step, k + 1);
            } else if (step + 1 < steps) {
                // The next slot has arrived for all, and all have read this one, which is filled next.
                cp_async_wait<STAGES - 2>();
                __syncthreads();
                load_step(step + 1, 0);
            }
            if (k == 0) fetch_step(step + STAGES - 1);
#pragma unroll
            for (int i = 0; i < TM; i++)
#pragma unroll
                for (int j = 0; j < TN; j++)
                    Mma<TX>::m16n8k16(acc[i][j], af[k % 2][i], &bf[k % 2][j / 2][j % 2 * 2]);
        }
    }
    cp_async_wait<0>();

    // Lane l holds rows l / 4 and l / 4 + 8, columns l % 4 * 2 and the next, of each fragment.
#pragma unroll
    for (int i = 0; i < TM; i++)
#pragma unroll
        for (int j = 0; j < TN; j++) {
            const u32 n = n0 + warp_n + j * 8 + lane % 4 * 2;
            float bias0 = 0.0f, bias1 = 0.0f;
#if FP8 % 2
            const float scale0 = n < a.n ? scales[n] : 0.0f, scale1 = n + 1 < a.n ? scales[n + 1] : 0.0f;
#endif
#if BIAS
            if (n < a.n) bias0 = to_f32(a.bias[n]);
            if (n + 1 < a.n) bias1 = to_f32(a.bias[n + 1]);
#endif
#pragma unroll
            for (int half = 0; half < 2; half++) {
                const u32 m = m0 + warp_m + i * 16 + half * 8 + lane / 4;
                if (m >= rows) continue;
                TO *out = a.out + size_t(m) * a.out_stride + n;
                float v0 = acc[i][j][half * 2], v1 = acc[i][j][half * 2 + 1];
#if FP8 == 3
                const float x_scale = a.x_scales[m];
                v0 *= x_scale * scale0, v1 *= x_scale * scale1;
#elif FP8 == 1
                v0 *= scale0, v1 *= scale1;
#endif
                v0 += bias0, v1 += bias1;
#if PAIR
                if (n >= a.n) continue;
#if ADD
                const Pack<TO, 2> residual = load<2>(out);
                v0 += to_f32(residual.at[0]);
                v1 += to_f32(residual.at[1]);
#endif
                store<2>(out, Pack<TO, 2>{{Round<TO>::of(v0), Round<TO>::of(v1)}});
#else
#if ADD
                if (n < a.n) v0 += to_f32(out[0]);
                if (n + 1 < a.n) v1 += to_f32(out[1]);
#endif
                if (n < a.n) out[0] = Round<TO>::of(v0);
                if (n + 1 < a.n) out[1] = Round<TO>::of(v1);
#endif
            }
        }
}
