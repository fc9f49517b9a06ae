// Paged attention of few sequences on tensor cores (mma.sync m16n8k16), whose blocks would not fill the card if a warp were
// alone with its rows; see attention.cuh for the order of its sums.
//
// The warps of a block share 16 query rows and walk a round at a time, a KV block for each warp. A warp makes the scores of
// its own block and weighs them, all exchange the weights, and each sums some columns of the values, block after block. So
// every sum is that of a warp alone, and so are its bits.
//
// A warp fetches its keys of the round ahead as soon as it has read those before, and its values when no warp reads these
// any more. The round ahead may be the first of the next tile: what is under way never runs dry.
//
// -DWARPS: 2 or 4, so that DIM is a multiple of 16 WARPS; -DSOFTCAP: 1 to bound the scores: they are
// scale * tanh(inner_scale q.k); for the others see attention_tile.cuh.
#include "kv_block.cuh"

#define ROWS 16
#define ROUND (WARPS * BLOCK)
#define VALUES (DIM / 8 / WARPS) // of a warp, in tiles of 8 columns
// Lanes that fetch a row side by side: as many chunks as are a power of 2, up to a line of memory.
#define LANES (KV_CHUNKS % 8 == 0 ? 8 : KV_CHUNKS % 4 == 0 ? 4 : 2)

// The round that is fetched next.
struct Ahead {
    u32 index; // of its tile; past the end when there is none left
    Tile tile;
    u32 round;
    // Where this warp's block lies: lane l holds positions l and l + 32, whose pages are asked for a round before their use.
    u32 page[2], in_page[2];
};

// Tiles are counted item by item, KV head by KV head.
__device__ __forceinline__ Tile tile_at(const Args &a, u32 index) {
    return open(a, a.items[index / a.kv_heads], index % a.kv_heads, ROWS);
}

// If the tile has no such round, goes on to the first one of the next that has any.
__device__ __forceinline__ void settle(const Args &a, Ahead &ahead, u32 count) {
#pragma unroll 1
    while (ahead.round >= ahead.tile.to) {
        ahead.index += gridDim.x;
        if (ahead.index >= count) return;
        ahead.tile = tile_at(a, ahead.index);
        ahead.round = ahead.tile.from;
    }
    const u32 *const pages = a.block_tables + size_t(ahead.tile.item.seq) * a.pages_per_seq;
#pragma unroll
    for (int i = 0; i < 2; i++) {
        const u32 p = ahead.round + threadIdx.x / 32 * BLOCK + i * 32 + threadIdx.x % 32;
        ahead.page[i] = NOWHERE;
        ahead.in_page[i] = p % a.page_size;
        if (p >= ahead.tile.first && p < ahead.tile.to) ahead.page[i] = pages[p / a.page_size];
    }
}

// Starts the copies of this warp's block of the round ahead, if there is one. If not they are none, so that the groups under
// way are always as many. Positions that no row of the tile sees become zero.
__device__ __forceinline__ void fetch(const Args &a, const Ahead &ahead, u32 count, uint4 *slot, const TP *from) {
    const u32 lane = threadIdx.x % 32, stride = a.kv_heads * DIM;
    if (ahead.index < count && ahead.round + threadIdx.x / 32 * BLOCK < ahead.tile.to) {
        from += ahead.tile.kv_head * DIM + lane % LANES * (16 / sizeof(TP));
        slot += lane / LANES * KV_STRIDE + lane % LANES;
#pragma unroll
        for (int i = 0; i < 2; i++) {
            const u32 mine = ahead.page[i] == NOWHERE ? NOWHERE : ahead.page[i] * a.page_size + ahead.in_page[i];
            // Of wide rows, the addresses of all would not fit in registers.
#pragma unroll(KV_CHUNKS > 16 ? 4 : 8)
            for (u32 row = 0; row < 32; row += 32 / LANES) {
                const u32 at = __shfl_sync(0xffffffffu, mine, row + lane / LANES);
                const bool seen = at != NOWHERE;
                const TP *const source = from + u64(seen ? at : 0) * stride;
#pragma unroll
                for (u32 chunk = 0; chunk < KV_CHUNKS; chunk += LANES)
                    cp_async_16_or_zero(slot + (i * 32 + row) * KV_STRIDE + chunk, source + chunk * (16 / sizeof(TP)), seen);
            }
        }
    }
    cp_async_commit();
}

// The fragments of the tile's query rows; those beyond the sequence are zero.
__device__ __forceinline__ void load_queries(const Args &a, const Tile &t, u32 (&qf)[DIM / 16][4]) {
#pragma unroll
    for (int h = 0; h < 2; h++) {
        const u32 row = t.item.row + h * 8 + threadIdx.x % 32 / 4;
        const TQ *const source = a.q + size_t(t.begin + row / a.group) * a.q_stride +
                                 (t.kv_head * a.group + row % a.group) * DIM + threadIdx.x % 4 * 2;
#pragma unroll
        for (int k = 0; k < DIM / 16; k++)
#pragma unroll
            for (int i = 0; i < 2; i++)
                qf[k][i * 2 + h] = row < t.rows ? *reinterpret_cast<const u32 *>(source + k * 16 + i * 8) : 0;
    }
}

// Of each block of a round: its weights as fragments, and the rows' greatest scores and totals.
struct Exchange {
    uint4 weights[WARPS][BLOCK / 16][32];
    float greatest[WARPS][ROWS];
    float totals[WARPS][ROWS];

    // Stores two rows' values of this warp's block.
    __device__ __forceinline__ static void put(float (&to)[WARPS][ROWS], const float (&value)[2]) {
        const u32 lane = threadIdx.x % 32;
#pragma unroll
        for (int h = 0; h < 2; h++)
            if (lane % 4 == 0) to[threadIdx.x / 32][h * 8 + lane / 4] = value[h];
    }
};

extern "C" __global__ void __launch_bounds__(32 * WARPS, 1) attention_few(Args a) {
    let_next_kernel_start();
    // A slot of keys for each warp, as many of values, and what the warps exchange.
    extern __shared__ uint4 shared[];
    const u32 lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    uint4 *const values = shared + ROUND * KV_STRIDE;
    uint4 *const own_keys = shared + warp * BLOCK * KV_STRIDE, *const own_values = values + warp * BLOCK * KV_STRIDE;
    Exchange &exchange = *reinterpret_cast<Exchange *>(values + ROUND * KV_STRIDE);

    const u32 count = *a.count * a.kv_heads;
    Ahead ahead;
    ahead.index = blockIdx.x - gridDim.x;
    ahead.round = ahead.tile.to = 0;
    settle(a, ahead, count);
    // Whether a round was fetched.
    bool begun = false;

#pragma unroll 1
    for (u32 index = blockIdx.x; index < count; index += gridDim.x) {
        const Tile tile = tile_at(a, index);
        u32 qf[DIM / 16][4], pos[2], first[2];
        see(a, tile, tile.item.row, pos, first);
        // Both of the lane's rows see these positions and all between.
        const u32 seen_from = max(first[0], first[1]), seen_to = min(pos[0], pos[1]);
        // All so far are inputs of the step, which are there before its first kernel starts.
        if (!begun) wait_for_kernels_before();
        load_queries(a, tile, qf);

        float max_score[2] = {-INFINITY_F, -INFINITY_F}, sum[2] = {0.0f, 0.0f}, acc[VALUES][4];
#pragma unroll
        for (int n = 0; n < VALUES; n++)
#pragma unroll
            for (int e = 0; e < 4; e++) acc[n][e] = 0.0f;

#pragma unroll 1
        for (u32 round = tile.from; !begun || round < tile.to;) {
            // Past the end of the walk there are no blocks.
            const u32 block = round + warp * BLOCK;
            const bool walked = begun && block < tile.to;

            float s[BLOCK / 8][4];
            if (begun) {
                // The keys; the values may be under way.
                cp_async_wait<1>();
                __syncwarp();
            }
            if (walked) {
#pragma unroll
                for (int n = 0; n < BLOCK / 8; n++)
#pragma unroll
                    for (int e = 0; e < 4; e++) s[n][e] = 0.0f;
#pragma unroll
                for (u32 k = 0; k < DIM / 16; k++) multiply_keys(s, qf[k], own_keys, k);
            }
            __syncwarp();
            fetch(a, ahead, count, own_keys, a.k_pages);

            if (begun) {
                float greatest[2] = {-INFINITY_F, -INFINITY_F};
                if (walked) {
                    if (SOFTCAP) bound(s, a.inner_scale);
                    if (block + BLOCK - 1 > seen_to || block < seen_from) mask(s, block, pos, first);
                    find_greatest(s, greatest);
                }
                Exchange::put(exchange.greatest, greatest);
                __syncthreads();

                // The states after each block.
                float factor[WARPS][2], own_max[2];
#pragma unroll
                for (u32 b = 0; b < WARPS; b++)
#pragma unroll
                    for (int h = 0; h < 2; h++) {
                        const Rescale u = rescale(max_score[h], exchange.greatest[b][h * 8 + lane / 4], a.scale);
                        max_score[h] = u.max_score;
                        factor[b][h] = u.factor_a;
                        if (b == warp) own_max[h] = u.max_score;
                    }
                if (walked) {
                    float total[2];
                    weigh_by(s, own_max, total, a.scale);
                    add_lanes(total);
                    Exchange::put(exchange.totals, total);
                    u32 pf[BLOCK / 16][4];
                    pack<TQ>(pf, s);
#pragma unroll
                    for (int k = 0; k < BLOCK / 16; k++)
                        exchange.weights[warp][k][lane] = make_uint4(pf[k][0], pf[k][1], pf[k][2], pf[k][3]);
                }
                // The values; the next keys may be under way.
                cp_async_wait<1>();
                __syncthreads();

#pragma unroll
                for (u32 b = 0; b < WARPS; b++) {
                    if (round + b * BLOCK >= tile.to) continue;
#pragma unroll
                    for (int h = 0; h < 2; h++) sum[h] = fmaf(sum[h], factor[b][h], exchange.totals[b][h * 8 + lane / 4]);
#pragma unroll
                    for (int n = 0; n < VALUES; n++)
#pragma unroll
                        for (int e = 0; e < 4; e++) acc[n][e] *= factor[b][e / 2];
                    u32 pf[BLOCK / 16][4];
#pragma unroll
                    for (int k = 0; k < BLOCK / 16; k++) {
                        const uint4 four = exchange.weights[b][k][lane];
                        pf[k][0] = four.x, pf[k][1] = four.y, pf[k][2] = four.z, pf[k][3] = four.w;
                    }
                    multiply_values(acc, pf, values + b * BLOCK * KV_STRIDE, warp * VALUES * 8);
                }
                // Nobody reads these values any more, nor what was exchanged.
                __syncthreads();
                round += ROUND;
            }
            fetch(a, ahead, count, own_values, a.v_pages);
            ahead.round += ROUND;
            settle(a, ahead, count);
            begun = true;
        }
        finish(a, tile, lane / 4, warp * VALUES * 8, acc, max_score, sum);
    }
    if (!begun) wait_for_kernels_before();
}
