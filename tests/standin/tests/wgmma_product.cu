// d[m x n] = a[m x k] b[n x k]^T with 16-bit inputs, or pairs of e4m3 in their place, and f32 sums: one block for each 64 rows and WIDTH columns. A
// producer fills STAGES slots by bulk copies, a consumer warpgroup multiplies. -DELEMENT, -DWIDTH, -DSTAGES. Each of the
// other macros plants one fault; STORED writes b by ordinary stores, so that there is something to fence.
#include "ptx_sm90.cuh"
struct bf16 { unsigned short bits; };
struct f16 { unsigned short bits; };
struct e4m3 { unsigned char bits; };
WGMMAS(bf16, "bf16", "k16", ", 0, 0")
WGMMAS(f16, "f16", "k16", ", 0, 0")
WGMMAS(e4m3, "e4m3", "k32", "")

#define K_STEP 64
#define SLOT ((64 + WIDTH) * 128)

struct Args {
    TensorMap a, b;
    const unsigned short* stored;
    float* d;
    int m, n, k, pad;
    long long pads[4];
};

extern "C" __global__ void __launch_bounds__(256, 1) wgmma_product(const __grid_constant__ Args args) {
    extern __shared__ __align__(1024) unsigned char smem[];
    __shared__ __align__(8) unsigned long long mbarriers[2 * STAGES];
    const unsigned slots = shared_address(smem), full = shared_address(mbarriers), empty = full + 8 * STAGES;
    const int row0 = blockIdx.x * 64, column0 = blockIdx.y * WIDTH, steps = (args.k + K_STEP - 1) / K_STEP;
    if (threadIdx.x == 0) {
        for (int s = 0; s < STAGES; ++s) {
            mbarrier_init(full + 8 * s, 1);
#ifdef ONE_ARRIVES
            mbarrier_init(empty + 8 * s, 1);
#else
            mbarrier_init(empty + 8 * s, 4);
#endif
        }
#ifndef NO_INIT_FENCE
        fence_mbarrier_init();
        fence_proxy_async();
#endif
    }
    __syncthreads();
    if (threadIdx.x >= 128) {
#ifdef MISPLACED
        if (threadIdx.x < 160)
#endif
        give_registers<40>();
        if (threadIdx.x != 128) return;
        for (int s = 0; s < steps; ++s) {
            const int slot = s % STAGES;
#ifdef NO_EMPTY_WAIT
            mbarrier_wait(full + 8 * slot, (s / STAGES + 1) & 1);
#else
            mbarrier_wait(empty + 8 * slot, (s / STAGES + 1) & 1);
#endif
#ifdef STORED
            mbarrier_arrive_expect(full + 8 * slot, 64 * 128);
#else
            mbarrier_arrive_expect(full + 8 * slot, SLOT);
            bulk_copy(slots + slot * SLOT + 64 * 128, args.b, full + 8 * slot, s * K_STEP, column0);
#endif
            bulk_copy(slots + slot * SLOT, args.a, full + 8 * slot, s * K_STEP, row0);
        }
        return;
    }
    take_registers<232>();
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    float d[WIDTH / 2];
    for (int s = 0; s < steps; ++s) {
        const int slot = s % STAGES;
#ifdef WRONG_PARITY
        mbarrier_wait(full + 8 * slot, (s / STAGES + 1) & 1);
#else
        mbarrier_wait(full + 8 * slot, s / STAGES & 1);
#endif
#ifdef STORED
        unsigned char* b = smem + slot * SLOT + 64 * 128;
        for (int i = threadIdx.x; i < WIDTH * K_STEP; i += 128) {
            const int row = i / K_STEP, byte = i % K_STEP * 2, column = s * K_STEP + i % K_STEP;
            const bool inside = column0 + row < args.n && column < args.k;
            *(unsigned short*)(b + row * 128 + (byte ^ row % 8 * 16)) = inside ? args.stored[(size_t)(column0 + row) * args.k + column] : 0;
        }
#ifndef NO_FENCE
        fence_proxy_async();
#endif
        named_barrier(1, 128);
#endif
        const unsigned long long oa = wgmma_operand(slots + slot * SLOT), ob = wgmma_operand(slots + slot * SLOT + 64 * 128);
#ifndef NO_WGMMA_FENCE
        wgmma_fence();
#endif
        for (int q = 0; q < 4; ++q) Wgmma<ELEMENT, WIDTH>::multiply(d, oa + 2 * q, ob + 2 * q, s + q > 0);
        wgmma_commit();
#ifndef NO_WGMMA_WAIT
        wgmma_wait<0>();
#endif
#ifdef ONE_ARRIVES
        if (threadIdx.x == 0) mbarrier_arrive(empty + 8 * slot);
#else
        if (lane == 0) mbarrier_arrive(empty + 8 * slot);
#endif
    }
    wgmma_wait<0>();
    wgmma_results(d);
#pragma unroll
    for (int i = 0; i < WIDTH / 2; ++i) {
        const int row = row0 + warp * 16 + lane / 4 + i / 2 % 2 * 8, column = column0 + i / 4 * 8 + lane % 4 * 2 + i % 2;
        if (row < args.m && column < args.n) args.d[(size_t)row * args.n + column] = d[i];
    }
}

// Transposes an 8 x 16 matrix through stmatrix: out[c][r] = x[r][c].
extern "C" __global__ void transpose(const unsigned short* x, unsigned short* out) {
    __shared__ __align__(16) unsigned short tile[16][8];
    const int g = threadIdx.x / 4, t = threadIdx.x % 4;
    const unsigned r[2] = {*(const unsigned*)(x + g * 16 + 2 * t), *(const unsigned*)(x + g * 16 + 8 + 2 * t)};
    stmatrix_x2_trans(shared_address(tile[threadIdx.x % 16]), r);
    __syncwarp();
    for (int i = threadIdx.x; i < 128; i += 32) out[i] = tile[i / 8][i % 8];
}
