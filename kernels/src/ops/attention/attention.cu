// Paged attention on tensor cores (mma.sync m16n8k16); see attention.cuh for the order of its sums.
//
// A block takes items: WARPS x 16 query rows of one sequence and one KV head. Each warp owns 16 rows;
// all share the K and V blocks. Keys have two slots of shared memory, values one: the next keys arrive
// while a block is used, the next values while its scores are made. That leaves room for more blocks.
//
// Where there are too few items for the card, all warps share 16 rows (ONE_TILE): each makes the scores of some
// positions, all exchange them and weigh them alike, and each sums some columns of the values. Every sum is as before,
// and so are its bits. Values then have two slots too: it is the way from memory that takes the time.
//
// FP8 pages are copied as they are and widened between shared memory and the products, whose bits are those of wide pages
// that hold the same values.
//
// -DTQ: type of q and out (bf16 or f16); -DFP8: 1 if pages are e4m3, else they are of that type too; -DDIM: head_dim, a multiple of 16; -DWARPS: 1 or 4;
// -DSLOTS: slots for keys, 2, or 1 where shared memory is short; -DPARTS: 1 if an item may span several parts.
// -DONE_TILE: 1 if the warps share 16 rows. -DSPLIT: positions of a part; -DBLOCK: positions walked together;
// -DSOFTCAP: 1 to bound the scores: they are scale * tanh(inner_scale q.k).
#include "attention.cuh"
#include "pages.cuh"

#if FP8
typedef e4m3 TP;
#else
typedef TQ TP;
#endif

struct Args {
    const u32 *count;
    const Item *items;
    const TQ *q;
    const TP *k_pages;
    const TP *v_pages;
    const u32 *positions;
    const u32 *query_start;
    const u32 *block_tables;
    TQ *out;
    float *states; // [slots, kv_heads, state_rows, DIM + 2]: values, greatest score, sum
    u32 kv_heads;
    u32 group;
    u32 state_rows;
    u32 q_stride;
    u32 out_stride;
    u32 pages_per_seq;
    u32 page_size;
    u32 window; // 0: none
    float scale; // times log2(e)
    float inner_scale; // of scores within tanh, with a soft cap
};

#define TILES (ONE_TILE ? 1 : WARPS)     // of 16 query rows
#define ROWS (16 * TILES)
#define TURNS (WARPS / TILES)            // warps that share a tile
#define VALUE_SLOTS (ONE_TILE ? 2 : 1)
#define SCORES (BLOCK / 8 / TURNS)       // of a warp, in tiles of 8 positions
#define VALUES (DIM / 8 / TURNS)         // of a warp, in tiles of 8 columns
#define CHUNKS (DIM / 8)          // 16-byte chunks of a row
#define STRIDE (CHUNKS + 1)       // an odd stride in chunks keeps ldmatrix free of bank conflicts
#define SHARE (BLOCK / WARPS)     // KV rows that a warp fetches
#define KV_CHUNKS u32(DIM * sizeof(TP) / 16) // 16-byte chunks of a KV row
#define KV_STRIDE (KV_CHUNKS | 1)

// Where this warp's KV rows of a block lie: lane l holds rows l and l + 32 of the warp's share.
struct Places {
    u32 at[(SHARE + 31) / 32];
};

struct Walk {
    const Args &a;
    const u32 *pages;
    u32 first; // the first position that a row of the tile sees
    u32 last;  // the last
};

__device__ __forceinline__ Places find(const Walk &w, u32 block) {
    Places places;
#pragma unroll
    for (int i = 0; i < (SHARE + 31) / 32; i++) {
        const u32 p = block + threadIdx.x / 32 * SHARE + i * 32 + threadIdx.x % 32;
        places.at[i] = NOWHERE;
        if (threadIdx.x % 32 + i * 32 < SHARE && p >= w.first && p <= w.last) {
            places.at[i] = w.pages[p / w.a.page_size] * w.a.page_size + p % w.a.page_size;
        }
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

#if FP8
// Adds the products of 16 columns of queries and of the keys from a row on, whose 16 columns are one chunk.
__device__ __forceinline__ void multiply_keys(float (&s)[BLOCK / 8][4], const u32 (&qf)[4], const uint4 *keys) {
    const u32 lane = threadIdx.x % 32;
#pragma unroll
    for (u32 n = 0; n < SCORES; n += 2) {
        u32 two[2];
        ldmatrix_x2(two, keys + (n * 8 + lane % 16) * KV_STRIDE);
#pragma unroll
        for (u32 i = 0; i < 2; i++) {
            u32 kf[2];
            widen_pairs<TQ>(two[i], kf[0], kf[1]);
            Mma<TQ>::m16n8k16(s[n + i], qf, kf);
        }
    }
}

// Adds the products of weights and of the values of a block from a chunk on.
__device__ __forceinline__ void multiply_values(float (&acc)[VALUES][4], const u32 (&pf)[BLOCK / 16][4], const uint4 *values) {
    const u32 lane = threadIdx.x % 32;
#pragma unroll
    for (u32 k = 0; k < BLOCK / 16; k++) {
        const uint4 *row = values + (k * 16 + lane % 16) * KV_STRIDE;
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
    }
}
#endif

extern "C" __global__ void __launch_bounds__(32 * WARPS, 1) attention(Args a) {
    let_next_kernel_start();
    // The query tile, SLOTS blocks of keys, VALUE_SLOTS of values, then the merged state if PARTS, or exchanged scores.
    extern __shared__ uint4 shared[];
    uint4 *const qs = shared;
    uint4 *const ks = qs + ROWS * STRIDE;
    uint4 *const vs = ks + SLOTS * BLOCK * KV_STRIDE;
#if PARTS
    float *const whole = reinterpret_cast<float *>(vs + VALUE_SLOTS * BLOCK * KV_STRIDE);
#endif
#if ONE_TILE
    // A row is longer by 8, which keeps it free of bank conflicts.
    float *const exchange = reinterpret_cast<float *>(vs + VALUE_SLOTS * BLOCK * KV_STRIDE);
#endif
    const u32 lane = threadIdx.x % 32, kv_head = blockIdx.x;
    // The tile of this warp, and its place among those that share it.
    const u32 tile = threadIdx.x / 32 / TURNS, turn = threadIdx.x / 32 % TURNS;
    const u32 count = *a.count;
    if (blockIdx.y >= count) wait_for_kernels_before();

    for (u32 index = blockIdx.y; index < count; index += gridDim.y) {
        const Item item = a.items[index];
        const u32 begin = a.query_start[item.seq], tokens = a.query_start[item.seq + 1] - begin;
        const u32 rows = tokens * a.group;
        const u32 low = item.row / a.group;
        const u32 high = min(item.row + ROWS, rows) - 1;
        Walk walk{a, a.block_tables + size_t(item.seq) * a.pages_per_seq, 0, a.positions[begin + high / a.group]};
        const u32 lowest = a.positions[begin + low]; // positions ascend within a sequence
        if (a.window && lowest + 1 > a.window) walk.first = lowest + 1 - a.window;

        u32 from = walk.first / BLOCK * BLOCK, to = walk.last + 1; // positions to walk
        if (item.part != ALL) {
            from = max(from, item.part * SPLIT);
            to = min(to, (item.part + 1) * SPLIT);
        }

        Places places = find(walk, from);
        // All so far are inputs of the step, which are there before its first kernel starts.
        wait_for_kernels_before();

        // The query rows; those beyond the sequence become zero.
#pragma unroll
        for (u32 i = 0; i < ROWS * CHUNKS / (32 * WARPS); i++) {
            const u32 c = i * 32 * WARPS + threadIdx.x, row = item.row + c / CHUNKS, chunk = c % CHUNKS;
            const bool inside = row < rows;
            const u32 t = inside ? row / a.group : 0, h = inside ? row % a.group : 0;
            const TQ *source = a.q + size_t(begin + t) * a.q_stride + (kv_head * a.group + h) * DIM + chunk * 8;
            cp_async_16_or_zero(qs + c / CHUNKS * STRIDE + chunk, source, inside);
        }
        cp_async_commit();

        // This lane's two rows: 16 * tile + lane / 4, and 8 below.
        u32 pos[2], first[2];
#pragma unroll
        for (int h = 0; h < 2; h++) {
            const u32 row = min(item.row + tile * 16 + h * 8 + lane / 4, high);
            pos[h] = a.positions[begin + row / a.group];
            first[h] = a.window && pos[h] + 1 > a.window ? pos[h] + 1 - a.window : 0;
        }
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
        places = find(walk, from + BLOCK);
#endif
        u32 slot = 0; // Of keys, and of values if they have two.
        for (u32 block = from; block < to; block += BLOCK) {
#if SLOTS == 2
            // The next keys. A copy past the end is empty, so that the groups under way are always as many.
            if (block + BLOCK < to) {
                fetch(ks + (slot ^ 1) * BLOCK * KV_STRIDE, a.k_pages, places, kv_head, a.kv_heads);
#if ONE_TILE
                fetch(vs + (slot ^ 1) * BLOCK * KV_STRIDE, a.v_pages, places, kv_head, a.kv_heads);
                places = find(walk, block + 2 * BLOCK);
#endif
            } else {
                cp_async_commit();
#if ONE_TILE
                cp_async_commit();
#endif
            }
            cp_async_wait<1 + VALUE_SLOTS>();
#else
            cp_async_wait<1>();
#endif
            __syncthreads();

            float s[BLOCK / 8][4]; // Of a tile that warps share, the first ones are this warp's.
#pragma unroll
            for (int n = 0; n < SCORES; n++)
#pragma unroll
                for (int e = 0; e < 4; e++) s[n][e] = 0.0f;
#pragma unroll
            for (u32 k = 0; k < DIM / 16; k++) {
                u32 qf[4];
                ldmatrix_x4(qf, qs + (tile * 16 + lane % 16) * STRIDE + 2 * k + lane / 16);
#if FP8
                multiply_keys(s, qf, ks + (slot * BLOCK + turn * SCORES * 8) * KV_STRIDE + k);
#else
#pragma unroll
                for (u32 n = 0; n < SCORES / 2; n++) {
                    u32 kf[4];
                    const u32 row = slot * BLOCK + (turn * SCORES / 2 + n) * 16 + lane / 16 * 8 + lane % 8;
                    ldmatrix_x4(kf, ks + row * KV_STRIDE + 2 * k + lane / 8 % 2);
                    Mma<TQ>::m16n8k16(s[2 * n], qf, kf);
                    Mma<TQ>::m16n8k16(s[2 * n + 1], qf, kf + 2);
                }
#endif
            }

#if SOFTCAP
#pragma unroll
            for (int n = 0; n < SCORES; n++)
#pragma unroll
                for (int e = 0; e < 4; e++) s[n][e] = tanhf(s[n][e] * a.inner_scale);
#endif

#if ONE_TILE
            float *const mine = exchange + lane / 4 * (BLOCK + 8) + lane % 4 * 2;
#pragma unroll
            for (int n = 0; n < SCORES; n++)
#pragma unroll
                for (int h = 0; h < 2; h++)
                    store<2>(mine + h * 8 * (BLOCK + 8) + (turn * SCORES + n) * 8, Pack<float, 2>{{s[n][h * 2], s[n][h * 2 + 1]}});
            __syncthreads();
#pragma unroll
            for (int n = 0; n < BLOCK / 8; n++)
#pragma unroll
                for (int h = 0; h < 2; h++) {
                    const Pack<float, 2> pair = load<2>(mine + h * 8 * (BLOCK + 8) + n * 8);
                    s[n][h * 2] = pair.at[0];
                    s[n][h * 2 + 1] = pair.at[1];
                }
#endif

            float factor[2], total[2];
            if (block + BLOCK - 1 > seen_to || block < seen_from) mask(s, block, pos, first);
            weigh(s, max_score, factor, total, a.scale);
            add_totals(sum, factor, total);
#pragma unroll
            for (int n = 0; n < VALUES; n++)
#pragma unroll
                for (int e = 0; e < 4; e++) acc[n][e] *= factor[e / 2];

#if SLOTS == 2
            cp_async_wait<VALUE_SLOTS>();
#else
            cp_async_wait<0>();
#endif
            __syncthreads();
            u32 pf[BLOCK / 16][4];
            pack<TQ>(pf, s);
#if FP8
            multiply_values(acc, pf, vs + slot % VALUE_SLOTS * BLOCK * KV_STRIDE + turn * VALUES / 2);
#else
#pragma unroll
            for (u32 k = 0; k < BLOCK / 16; k++) {
#pragma unroll
                for (u32 n = 0; n < VALUES / 2; n++) {
                    u32 vf[4];
                    const u32 row = slot % VALUE_SLOTS * BLOCK + k * 16 + lane % 16;
                    ldmatrix_x4_trans(vf, vs + row * KV_STRIDE + turn * VALUES + 2 * n + lane / 16);
                    Mma<TQ>::m16n8k16(acc[2 * n], pf[k], vf);
                    Mma<TQ>::m16n8k16(acc[2 * n + 1], pf[k], vf + 2);
                }
            }
#endif
            // Nobody reads these values any more, nor these keys: they are replaced next.
            __syncthreads();
#if SLOTS == 2
            slot ^= 1;
            if (!ONE_TILE && block + BLOCK < to) {
                fetch(vs, a.v_pages, places, kv_head, a.kv_heads);
                places = find(walk, block + 2 * BLOCK);
            }
#else
            if (block + BLOCK < to) {
                places = find(walk, block + BLOCK);
                fetch(ks, a.k_pages, places, kv_head, a.kv_heads);
                fetch(vs, a.v_pages, places, kv_head, a.kv_heads);
            }
#endif

#if PARTS
            // The end of a part: merge it, and start the next from nothing.
            if ((block + BLOCK) % SPLIT == 0 || block + BLOCK >= to) {
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
#pragma unroll
        for (int h = 0; h < 2; h++) {
            const u32 in_tile = tile * 16 + h * 8 + lane / 4, row = item.row + in_tile;
            if (row >= rows) continue;
            if (item.slot == NOWHERE) {
                const float of_sum = inverse(sum[h]);
                TQ *out = a.out + size_t(begin + row / a.group) * a.out_stride +
                          (kv_head * a.group + row % a.group) * DIM + turn * VALUES * 8 + lane % 4 * 2;
#pragma unroll
                for (int n = 0; n < VALUES; n++) {
                    const float lo = share(acc[n][h * 2], of_sum), hi = share(acc[n][h * 2 + 1], of_sum);
                    store<2>(out + n * 8, Pack<TQ, 2>{{Round<TQ>::of(lo), Round<TQ>::of(hi)}});
                }
            } else {
                float *state = a.states + ((size_t(item.slot) * a.kv_heads + kv_head) * a.state_rows + in_tile) * (DIM + 2);
#pragma unroll
                for (int n = 0; n < VALUES; n++)
                    store<2>(state + (turn * VALUES + n) * 8 + lane % 4 * 2, Pack<float, 2>{{acc[n][h * 2], acc[n][h * 2 + 1]}});
                if (turn == 0 && lane % 4 == 0) store<2>(state + DIM, Pack<float, 2>{{max_score[h], sum[h]}});
            }
        }
        // The query tile and the slots belong to the next item.
        __syncthreads();
    }
}
