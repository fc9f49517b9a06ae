// Paged attention on tensor cores (mma.sync m16n8k16); see attention.cuh for the order of its sums.
//
// A block takes items: WARPS x 16 query rows of one sequence and one KV head. Each warp owns 16 rows;
// all share the K and V blocks. Keys have two slots of shared memory, values one: the next keys arrive
// while a block is used, the next values while its scores are made. That leaves room for more blocks.
//
// -DWARPS: 1 or 4; -DSLOTS: slots for keys, 2, or 1 where shared memory is short; -DPARTS: 1 if an item may span several
// parts; -DSOFTCAP: 1 to bound the scores: they are scale * tanh(inner_scale q.k); for the others see attention_tile.cuh.
#include "kv_block.cuh"

#define ROWS (16 * WARPS)
#define CHUNKS (DIM / 8)          // 16-byte chunks of a query row
#define STRIDE (CHUNKS + 1)       // an odd stride in chunks keeps ldmatrix free of bank conflicts
#define VALUES (DIM / 8)          // in tiles of 8 columns
#define SHARE (BLOCK / WARPS)     // KV rows that a warp fetches

// Where this warp's KV rows of a block lie: lane l holds rows l and l + 32 of the warp's share.
struct Places {
    u32 at[(SHARE + 31) / 32];
};

__device__ __forceinline__ Places find(const Args &a, const Tile &t, u32 block) {
    Places places;
    const u32 *const pages = a.block_tables + size_t(t.item.seq) * a.pages_per_seq;
#pragma unroll
    for (int i = 0; i < (SHARE + 31) / 32; i++) {
        const u32 p = block + threadIdx.x / 32 * SHARE + i * 32 + threadIdx.x % 32;
        places.at[i] = NOWHERE;
        if (threadIdx.x % 32 + i * 32 < SHARE && p >= t.first && p < t.to)
            places.at[i] = pages[p / a.page_size] * a.page_size + p % a.page_size;
    }
    return places;
}

// Starts the copies of a block of keys or values; positions that no row of the tile sees become zero.
__device__ __forceinline__ void fetch(uint4 *slot, const TP *from, const Places &places, u32 kv_head, u32 kv_heads) {
    const u32 lane = threadIdx.x % 32, share = threadIdx.x / 32 * SHARE;
    // A single warp fetches many rows: unrolled wholly, the addresses would not fit in registers.
#pragma unroll(WARPS == 1 ? 4 : 16)
    for (u32 i = 0; i < (SHARE * KV_CHUNKS + 31) / 32; i++) {
        const u32 c = i * 32 + lane, row = c / KV_CHUNKS, chunk = c % KV_CHUNKS;
        u32 at = __shfl_sync(0xffffffffu, places.at[0], row % 32);
#if SHARE > 32
        const u32 upper = __shfl_sync(0xffffffffu, places.at[1], row % 32);
        if (row >= 32) at = upper;
#endif
        if (SHARE * KV_CHUNKS % 32 != 0 && row >= SHARE) break;
        const bool seen = at != NOWHERE;
        const TP *source = from + (seen ? (size_t(at) * kv_heads + kv_head) * DIM + chunk * (16 / sizeof(TP)) : 0);
        cp_async_16_or_zero(slot + (share + row) * KV_STRIDE + chunk, source, seen);
    }
    cp_async_commit();
}

extern "C" __global__ void __launch_bounds__(32 * WARPS, 1) attention(Args a) {
    let_next_kernel_start();
    // The query tile, SLOTS blocks of keys, one of values, then the merged state if PARTS.
    extern __shared__ uint4 shared[];
    uint4 *const qs = shared;
    uint4 *const ks = qs + ROWS * STRIDE;
    uint4 *const vs = ks + SLOTS * BLOCK * KV_STRIDE;
#if PARTS
    float *const whole = reinterpret_cast<float *>(vs + BLOCK * KV_STRIDE);
#endif
    const u32 lane = threadIdx.x % 32, warp = threadIdx.x / 32, kv_head = blockIdx.x;
    const u32 count = *a.count;
    if (blockIdx.y >= count) wait_for_kernels_before();

    for (u32 index = blockIdx.y; index < count; index += gridDim.y) {
        const Tile tile = open(a, a.items[index], kv_head, ROWS);
        Places places = find(a, tile, tile.from);
        // All so far are inputs of the step, which are there before its first kernel starts.
        wait_for_kernels_before();

        // The query rows; those beyond the sequence become zero.
#pragma unroll
        for (u32 i = 0; i < ROWS * CHUNKS / (32 * WARPS); i++) {
            const u32 c = i * 32 * WARPS + threadIdx.x, row = tile.item.row + c / CHUNKS, chunk = c % CHUNKS;
            const bool inside = row < tile.rows;
            const u32 t = inside ? row / a.group : 0, h = inside ? row % a.group : 0;
            const TQ *source = a.q + size_t(tile.begin + t) * a.q_stride + (kv_head * a.group + h) * DIM + chunk * 8;
            cp_async_16_or_zero(qs + c / CHUNKS * STRIDE + chunk, source, inside);
        }
        cp_async_commit();

        u32 pos[2], first[2];
        see(a, tile, tile.item.row + warp * 16, pos, first);
        // Both of the lane's rows see these positions and all between.
        const u32 seen_from = max(first[0], first[1]), seen_to = min(pos[0], pos[1]);

        float max_score[2] = {-INFINITY_F, -INFINITY_F}, sum[2] = {0.0f, 0.0f}, acc[VALUES][4];
#pragma unroll
        for (int n = 0; n < VALUES; n++)
#pragma unroll
            for (int e = 0; e < 4; e++) acc[n][e] = 0.0f;
#if PARTS
        float whole_max[2] = {-INFINITY_F, -INFINITY_F}, whole_sum[2] = {0.0f, 0.0f};
        for (u32 e = 0; e < DIM / 2; e++) whole[e * 32 * WARPS + threadIdx.x] = 0.0f;
#endif

        fetch(ks, a.k_pages, places, kv_head, a.kv_heads);
        fetch(vs, a.v_pages, places, kv_head, a.kv_heads);
#if SLOTS == 2
        places = find(a, tile, tile.from + BLOCK);
#endif
        u32 slot = 0; // Of keys.
        for (u32 block = tile.from; block < tile.to; block += BLOCK) {
            const bool more = block + BLOCK < tile.to;
#if SLOTS == 2
            // The next keys. A copy past the end is empty, so that the groups under way are always as many.
            if (more) fetch(ks + (slot ^ 1) * BLOCK * KV_STRIDE, a.k_pages, places, kv_head, a.kv_heads);
            else cp_async_commit();
            cp_async_wait<2>();
#else
            cp_async_wait<1>();
#endif
            __syncthreads();

            float s[BLOCK / 8][4];
#pragma unroll
            for (int n = 0; n < BLOCK / 8; n++)
#pragma unroll
                for (int e = 0; e < 4; e++) s[n][e] = 0.0f;
#pragma unroll
            for (u32 k = 0; k < DIM / 16; k++) {
                u32 qf[4];
                ldmatrix_x4(qf, qs + (warp * 16 + lane % 16) * STRIDE + 2 * k + lane / 16);
                multiply_keys(s, qf, ks + slot * BLOCK * KV_STRIDE, k);
            }

            float factor[2], total[2];
            if (SOFTCAP) bound(s, a.inner_scale);
            if (block + BLOCK - 1 > seen_to || block < seen_from) mask(s, block, pos, first);
            weigh(s, max_score, factor, total, a.scale);
            add_totals(sum, factor, total);
#pragma unroll
            for (int n = 0; n < VALUES; n++)
#pragma unroll
                for (int e = 0; e < 4; e++) acc[n][e] *= factor[e / 2];

#if SLOTS == 2
            cp_async_wait<1>();
#else
            cp_async_wait<0>();
#endif
            __syncthreads();
            u32 pf[BLOCK / 16][4];
            pack<TQ>(pf, s);
            multiply_values(acc, pf, vs, 0);
            // Nobody reads these values any more, nor these keys: they are replaced next.
            __syncthreads();
#if SLOTS == 2
            slot ^= 1;
            if (more) {
                fetch(vs, a.v_pages, places, kv_head, a.kv_heads);
                places = find(a, tile, block + 2 * BLOCK);
            }
#else
            if (more) {
                places = find(a, tile, block + BLOCK);
                fetch(ks, a.k_pages, places, kv_head, a.kv_heads);
                fetch(vs, a.v_pages, places, kv_head, a.kv_heads);
            }
#endif

#if PARTS
            // The end of a part: merge it, and start the next from nothing.
            if ((block + BLOCK) % SPLIT == 0 || !more) {
#pragma unroll
                for (int h = 0; h < 2; h++) {
                    const Rescale u = rescale(whole_max[h], max_score[h], a.scale);
                    whole_max[h] = u.max_score;
                    whole_sum[h] = blend(u, whole_sum[h], sum[h]);
#pragma unroll
                    for (int n = 0; n < DIM / 8; n++)
#pragma unroll
                        for (int e = 0; e < 2; e++) {
                            float *w = whole + (n * 4 + h * 2 + e) * 32 * WARPS + threadIdx.x;
                            *w = blend(u, *w, acc[n][h * 2 + e]);
                            acc[n][h * 2 + e] = 0.0f;
                        }
                    max_score[h] = -INFINITY_F;
                    sum[h] = 0.0f;
                }
            }
#endif
        }
        cp_async_wait<0>();

#if PARTS
#pragma unroll
        for (int h = 0; h < 2; h++) {
            max_score[h] = whole_max[h];
            sum[h] = whole_sum[h];
#pragma unroll
            for (int n = 0; n < DIM / 8; n++)
#pragma unroll
                for (int e = 0; e < 2; e++)
                    acc[n][h * 2 + e] = whole[(n * 4 + h * 2 + e) * 32 * WARPS + threadIdx.x];
        }
#endif
        finish(a, tile, warp * 16 + lane / 4, 0, acc, max_score, sum);
        // The query tile and the slots belong to the next item.
        __syncthreads();
    }
}
