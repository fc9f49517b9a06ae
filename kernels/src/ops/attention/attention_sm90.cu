// Paged attention of prompts on the tensor cores of sm_90a (wgmma); see attention.cuh for the order of its sums, which is
// that of attention.cu to the bit.
//
// A block stays on its multiprocessor and takes one tile after the other: 64 query rows for each consumer warpgroup, of one
// sequence and one KV head. A producer warpgroup brings its queries, and fills STAGES slots of shared memory, each with the
// keys and values of BLOCK positions, as far ahead as there is room; two mbarriers for each slot say that it is full and
// that it is empty again. Queries are kept in registers. While a warpgroup makes the weights of a block, the tensor cores sum the values of the one
// before; and the two warpgroups take turns at them, so that one multiplies while the other one weighs.
//
// FP8 pages cannot be copied in bulk, since products want them wide: producer warps widen them on their way into a slot.
//
// -DTQ: type of q and out (bf16 or f16); -DFP8: 1 if pages are e4m3, else they are of that type too; -DDIM: head_dim, 64 or
// 128; -DWGS: consumer warpgroups, 2; -DSTAGES; -DPARTS: 1 if a tile may span several parts; -DSPLIT: positions of a part;
// -DBLOCK: positions walked together; -DSOFTCAP: 1 to bound the scores: they are scale * tanh(inner_scale q.k).
#include "attention.cuh"
#include "pages.cuh"
#include "ptx_sm90.cuh"

#if FP8
typedef e4m3 TP;
#else
typedef TQ TP;
#endif

WGMMAS_ROWS(bf16, "bf16")
WGMMAS_ROWS(f16, "f16")

#define ROWS (64 * WGS)
#define CHUNKS (DIM / 8)                  // 16-byte chunks of a row
#define COLUMNS (BLOCK * 128)             // bytes of 64 columns of a block's keys or values
#define KEYS (DIM / 64 * COLUMNS)         // bytes
#define SLOT (2 * KEYS)                   // keys, then values
#define QUERIES (ROWS * DIM * 2)          // bytes
#if PARTS
#define ROOM (DIM / 2 * 32 * 4)           // bytes of a consumer warp's own: the merged values of its lanes
#else
#define ROOM (16 * DIM * 2)               // its results
#endif
#define SHARE (BLOCK / 4)                 // positions that a producer warp fetches
#define PRODUCER_REGISTERS 88
#define CONSUMER_REGISTERS 208

struct Args {
    TensorMap k_map; // of the pages, a row for each position, in boxes of `box_rows` positions
    TensorMap v_map;
    const u32 *count;
    const Item *items;
    const TQ *q;
    const TP *k_pages;
    const TP *v_pages;
    const u32 *positions;
    const u32 *query_start;
    const u32 *block_tables;
    TQ *out;
    u32 kv_heads;
    u32 group;
    u32 q_stride;
    u32 out_stride;
    u32 pages_per_seq;
    u32 page_size;
    u32 window; // 0: none
    u32 box_rows; // positions that lie in one page together and are copied together: 8 or 16; 0: none
    float scale; // times log2(e)
    float inner_scale; // of scores within tanh, with a soft cap
    u32 pad[4];
};

// The tiles that a block makes. They come sorted, the longest first; every other round goes backwards, so that no block
// has the longest of each.
struct Schedule {
    u32 round, tiles;
    __device__ __forceinline__ u32 tile() const {
        return round * gridDim.x + (round % 2 ? gridDim.x - 1 - blockIdx.x : blockIdx.x);
    }
    __device__ __forceinline__ bool any() const { return tile() < tiles; }
};

struct Tile {
    const u32 *pages;
    u32 begin;       // the sequence's first token
    u32 rows;        // of the sequence
    u32 row;         // the first of the tile
    u32 kv_head;
    u32 first, last; // the positions that rows of the tile see

    __device__ __forceinline__ Tile(const Args &a, u32 index) {
        const Item item = a.items[index / a.kv_heads];
        kv_head = index % a.kv_heads;
        pages = a.block_tables + size_t(item.seq) * a.pages_per_seq;
        begin = a.query_start[item.seq];
        rows = (a.query_start[item.seq + 1] - begin) * a.group;
        row = item.row;
        const u32 low = a.positions[begin + row / a.group]; // positions ascend within a sequence
        first = a.window && low + 1 > a.window ? low + 1 - a.window : 0;
        last = a.positions[begin + (min(row + ROWS, rows) - 1) / a.group];
    }

    __device__ __forceinline__ u32 from() const { return first / BLOCK * BLOCK; }
};

// The slots in turn, with the parity of the phase that a visit waits for.
struct Ring {
    u32 slot, parity;
    __device__ __forceinline__ void next() {
        if (++slot == STAGES) slot = 0, parity ^= 1;
    }
};

// The mbarriers, each at 8 bytes.
struct Barriers {
    u32 at;
    __device__ __forceinline__ u32 full(u32 slot) const { return at + 8 * slot; }
    __device__ __forceinline__ u32 empty(u32 slot) const { return at + 8 * (STAGES + slot); }
    __device__ __forceinline__ u32 queries_full() const { return at + 16 * STAGES; }
    __device__ __forceinline__ u32 queries_empty() const { return at + 16 * STAGES + 8; }
    __device__ __forceinline__ u32 turn(u32 warpgroup) const { return at + 16 * STAGES + 16 + 8 * warpgroup; }

    __device__ __forceinline__ void init() const {
        for (u32 s = 0; s < STAGES; s++) {
            mbarrier_init(full(s), 4);        // Each producer warp.
            mbarrier_init(empty(s), 4 * WGS); // Each consumer warp.
        }
        mbarrier_init(queries_full(), 4);
        mbarrier_init(queries_empty(), 4 * WGS);
        for (u32 g = 0; g < WGS; g++) mbarrier_init(turn(g), 4); // Each warp of the other warpgroup.
        fence_mbarrier_init();
        fence_proxy_async();
    }
};

// Starts the copies of a tile's queries; those beyond the sequence become zero.
__device__ __forceinline__ void fetch_queries(const Args &a, const Tile &tile, unsigned char *queries) {
#pragma unroll 4
    for (u32 i = 0; i < ROWS * CHUNKS / 128; i++) {
        const u32 c = i * 128 + threadIdx.x % 128, in_tile = c / CHUNKS, chunk = c % CHUNKS, row = tile.row + in_tile;
        const bool inside = row < tile.rows;
        const u32 t = inside ? row / a.group : 0, h = inside ? row % a.group : 0;
        const TQ *from = a.q + size_t(tile.begin + t) * a.q_stride + (tile.kv_head * a.group + h) * DIM + chunk * 8;
        cp_async_16_or_zero(queries + (in_tile * CHUNKS + (chunk ^ in_tile % 8)) * 16, from, inside);
    }
    cp_async_commit();
}

// Where a chunk of a row of keys or values lies in a slot.
__device__ __forceinline__ unsigned char *place(unsigned char *slot, u32 row, u32 chunk) {
    return slot + chunk / 8 * COLUMNS + row * 128 + (chunk % 8 ^ row % 8) * 16;
}

#if FP8
// This lane's chunks of 16 columns of its warp's share of a block, on their way to be widened.
struct Narrow {
    uint4 keys[SHARE * DIM / 16 / 32], values[SHARE * DIM / 16 / 32];

    // Asks for them; positions that no row of the tile sees are zero.
    __device__ __forceinline__ void load(const Args &a, u32 kv_head, u32 at) {
#pragma unroll
        for (u32 i = 0; i < SHARE * DIM / 16 / 32; i++) {
            const u32 c = i * 32 + threadIdx.x % 32, source = __shfl_sync(0xffffffffu, at, c / (DIM / 16));
            keys[i] = values[i] = make_uint4(0, 0, 0, 0);
            if (source == NOWHERE) continue;
            const size_t from = (size_t(source) * a.kv_heads + kv_head) * DIM + c % (DIM / 16) * 16;
            keys[i] = *reinterpret_cast<const uint4 *>(a.k_pages + from);
            values[i] = *reinterpret_cast<const uint4 *>(a.v_pages + from);
        }
    }

    // Of each 16 columns the first 8 lie in turns with the others.
    static __device__ __forceinline__ void store(unsigned char *slot, u32 row, u32 chunk, const uint4 &x) {
        uint4 low, high;
        widen_pairs<TQ>(x.x, low.x, high.x);
        widen_pairs<TQ>(x.y, low.y, high.y);
        widen_pairs<TQ>(x.z, low.z, high.z);
        widen_pairs<TQ>(x.w, low.w, high.w);
        *reinterpret_cast<uint4 *>(place(slot, row, 2 * chunk)) = low;
        *reinterpret_cast<uint4 *>(place(slot, row, 2 * chunk + 1)) = high;
    }

    __device__ __forceinline__ void widen(unsigned char *slot, u32 warp) const {
#pragma unroll
        for (u32 i = 0; i < SHARE * DIM / 16 / 32; i++) {
            const u32 c = i * 32 + threadIdx.x % 32, row = warp * SHARE + c / (DIM / 16), chunk = c % (DIM / 16);
            store(slot, row, chunk, keys[i]);
            store(slot + KEYS, row, chunk, values[i]);
        }
    }
};
#endif

// Fills the slots, tile after tile. Each warp fetches SHARE positions of a block: by bulk copies if the tile sees all of
// them, else one by one; those that no row of the tile sees become zero.
__device__ __forceinline__ void produce(const Args &a, unsigned char *slots, const Barriers &barriers, u32 tiles) {
    const u32 warp = threadIdx.x / 32 % 4, lane = threadIdx.x % 32, base = shared_address(slots);
    unsigned char *const queries = slots + STAGES * SLOT;
    Ring ring = {0, 1};
    u32 queries_parity = 1;
    for (Schedule schedule = {0, tiles}; schedule.any(); schedule.round++) {
        const Tile tile(a, schedule.tile());
        mbarrier_wait(barriers.queries_empty(), queries_parity);
        queries_parity ^= 1;
        fetch_queries(a, tile, queries);
        for (u32 block = tile.from(); block <= tile.last; block += BLOCK) {
            const u32 start = block + warp * SHARE, p = start + lane % SHARE;
            const u32 at = p >= tile.first && p <= tile.last ? tile.pages[p / a.page_size] * a.page_size + p % a.page_size : NOWHERE;
            const u32 slot = ring.slot * SLOT, filled = barriers.full(ring.slot);
#if FP8
            Narrow narrow;
            narrow.load(a, tile.kv_head, at);
            mbarrier_wait(barriers.empty(ring.slot), ring.parity);
            narrow.widen(slots + slot, warp);
            fence_proxy_async();
            __syncwarp();
            if (lane == 0) mbarrier_arrive(filled);
#else
            mbarrier_wait(barriers.empty(ring.slot), ring.parity);
            if (a.box_rows && start >= tile.first && start + SHARE - 1 <= tile.last) {
                // A lane for each box: of keys or values, of 64 columns, of some positions.
                const u32 columns = lane / 2 % (DIM / 64), in_share = lane / 2 / (DIM / 64) * a.box_rows;
                const u32 row = __shfl_sync(0xffffffffu, at, in_share % SHARE);
                if (lane == 0) mbarrier_arrive_expect(filled, SHARE * DIM * 2 * 2);
                __syncwarp();
                if (in_share < SHARE) {
                    const u32 to = base + slot + lane % 2 * KEYS + columns * COLUMNS + (warp * SHARE + in_share) * 128;
                    bulk_copy(to, lane % 2 ? a.v_map : a.k_map, filled, tile.kv_head * DIM + columns * 64, row);
                }
            } else {
#pragma unroll 2
                for (u32 i = 0; i < SHARE * CHUNKS / 32; i++) {
                    const u32 c = i * 32 + lane, in_share = c / CHUNKS, chunk = c % CHUNKS, row = warp * SHARE + in_share;
                    const u32 source = __shfl_sync(0xffffffffu, at, in_share);
                    const bool seen = source != NOWHERE;
                    const size_t from = seen ? (size_t(source) * a.kv_heads + tile.kv_head) * DIM + chunk * 8 : 0;
                    unsigned char *to = place(slots + slot, row, chunk);
                    cp_async_16_or_zero(to, a.k_pages + from, seen);
                    cp_async_16_or_zero(to + KEYS, a.v_pages + from, seen);
                }
                cp_async_commit();
                cp_async_wait<0>();
                fence_proxy_async();
                __syncwarp();
                if (lane == 0) mbarrier_arrive(filled);
            }
#endif
            if (block == tile.from()) {
                cp_async_wait<0>();
                __syncwarp();
                if (lane == 0) mbarrier_arrive(barriers.queries_full());
            }
            ring.next();
        }
    }
}

// The turns of two warpgroups at the tensor cores: an mbarrier for each says that the other one has had its turn. Both take
// as many.
struct Turns {
    u32 mine, others, parity;

    __device__ __forceinline__ Turns(const Barriers &barriers, u32 warpgroup)
        : mine(barriers.turn(warpgroup)), others(barriers.turn(1 - warpgroup)), parity(1 - warpgroup) {}

    __device__ __forceinline__ void wait() {
        mbarrier_wait(mine, parity);
        parity ^= 1;
    }

    __device__ __forceinline__ void pass() const {
        mbarrier_arrive_if(others, threadIdx.x % 32 == 0);
    }
};

// A consumer warpgroup, and where its lanes are.
struct Warpgroup {
    const Args &a;
    const unsigned char *queries; // of its rows
    unsigned char *room;          // of the warp
    u32 slots;
    Barriers barriers;
    u32 index;                    // of the warpgroup
    u32 warp;                     // in it
    u32 lane;

    // The queries of a tile, 16 columns for each step.
    __device__ __forceinline__ void take(u32 (&q)[DIM / 16][4], u32 parity) const {
        mbarrier_wait(barriers.queries_full(), parity);
        const u32 row = warp * 16 + lane % 16;
#pragma unroll
        for (u32 k = 0; k < DIM / 16; k++)
            ldmatrix_x4(q[k], queries + (row * CHUNKS + ((2 * k + lane / 16) ^ row % 8)) * 16);
        __syncwarp();
        if (lane == 0) mbarrier_arrive(barriers.queries_empty());
    }

    // s = q k^T for the keys of a slot.
    __device__ __forceinline__ void multiply_keys(float (&s)[BLOCK / 2], const u32 (&q)[DIM / 16][4], u32 slot) const {
#pragma unroll
        for (u32 k = 0; k < DIM / 16; k++) {
            const u64 keys = wgmma_operand(slots + slot * SLOT + k / 4 * COLUMNS) + 2 * (k % 4);
            WgmmaRows<TQ, BLOCK, false>::multiply(s, q[k], keys, k > 0);
        }
        wgmma_commit();
    }

    // acc += p v for the values of a slot.
    __device__ __forceinline__ void add_values(float (&acc)[DIM / 2], const u32 (&p)[BLOCK / 16][4], u32 slot) const {
        const u64 values = wgmma_transposed(slots + slot * SLOT + KEYS, COLUMNS);
#pragma unroll
        for (u32 k = 0; k < BLOCK / 16; k++) WgmmaRows<TQ, DIM, true>::multiply(acc, p[k], values + 128 * k, 1);
        wgmma_commit();
    }

    __device__ __forceinline__ void release(u32 slot) const {
        if (lane == 0) mbarrier_arrive(barriers.empty(slot));
    }
};

// The two rows of a lane: 16 * warp + lane / 4 of its warpgroup, and 8 below.
struct Rows {
    u32 pos[2], first[2];    // each sees these positions
    u32 all_from, all_to;    // all rows of the warpgroup see these
    u32 to;                  // none sees this one

    __device__ __forceinline__ Rows(const Args &a, const Tile &tile, const Warpgroup &w) {
        const u32 row = tile.row + w.index * 64, high = min(row + 64, tile.rows) - 1;
        if (row >= tile.rows) {
            all_from = all_to = to = pos[0] = pos[1] = first[0] = first[1] = 0;
            return;
        }
#pragma unroll
        for (int h = 0; h < 2; h++) {
            pos[h] = a.positions[tile.begin + min(row + w.warp * 16 + h * 8 + w.lane / 4, high) / a.group];
            first[h] = start(a, pos[h]);
        }
        all_to = a.positions[tile.begin + row / a.group] + 1;
        to = a.positions[tile.begin + high / a.group] + 1;
        all_from = start(a, to - 1);
    }

    static __device__ __forceinline__ u32 start(const Args &a, u32 pos) {
        return a.window && pos + 1 > a.window ? pos + 1 - a.window : 0;
    }
};

// Scores become weights, as in attention.cu.
__device__ __forceinline__ void weigh_block(const Args &a, const Rows &rows, u32 block, float (&scores)[BLOCK / 2],
                                            float (&max_score)[2], float (&factor)[2], float (&total)[2]) {
    float(&s)[BLOCK / 8][4] = reinterpret_cast<float(&)[BLOCK / 8][4]>(scores);
#if SOFTCAP
#pragma unroll
    for (int n = 0; n < BLOCK / 8; n++)
#pragma unroll
        for (int e = 0; e < 4; e++) s[n][e] = tanhf(s[n][e] * a.inner_scale);
#endif
    if (block < rows.all_from || block + BLOCK > rows.all_to) mask(s, block, rows.pos, rows.first);
    weigh(s, max_score, factor, total, a.scale);
}

__device__ __forceinline__ void pack_block(u32 (&p)[BLOCK / 16][4], const float (&scores)[BLOCK / 2]) {
    pack<TQ>(p, reinterpret_cast<const float(&)[BLOCK / 8][4]>(scores));
}

#if PARTS
// The parts that are over, merged: values lie in shared memory.
struct Whole {
    float *values; // of the lane, 32 apart
    float max_score[2], sum[2];
    bool any;

    // Adds a part, whose sums begin from nothing then.
    __device__ __forceinline__ void merge(float (&acc)[DIM / 2], const float (&part_max)[2], const float (&part_sum)[2], float scale) {
#pragma unroll
        for (int h = 0; h < 2; h++) {
            const Rescale u = any ? rescale(max_score[h], part_max[h], scale) : Rescale{part_max[h], 0.0f, 1.0f};
            max_score[h] = u.max_score;
            sum[h] = any ? blend(u, sum[h], part_sum[h]) : part_sum[h];
#pragma unroll
            for (int e = 0; e < DIM / 2; e++) {
                if (e / 2 % 2 != h) continue;
                values[e * 32] = any ? blend(u, values[e * 32], acc[e]) : acc[e];
                acc[e] = 0.0f;
            }
        }
        any = true;
    }

    // Merges the last part into `acc` and `sum`.
    __device__ __forceinline__ void finish(float (&acc)[DIM / 2], const float (&part_max)[2], float (&part_sum)[2], float scale) const {
        if (!any) return;
#pragma unroll
        for (int h = 0; h < 2; h++) {
            const Rescale u = rescale(max_score[h], part_max[h], scale);
            part_sum[h] = blend(u, sum[h], part_sum[h]);
#pragma unroll
            for (int e = 0; e < DIM / 2; e++)
                if (e / 2 % 2 == h) acc[e] = blend(u, values[e * 32], acc[e]);
        }
    }
};
#endif

// Writes the values of a warp's rows, which go through its room, so that they are moved 16 bytes at a time.
__device__ __forceinline__ void write(const Args &a, const Tile &tile, const Warpgroup &w, const float (&acc)[DIM / 2], const float (&sum)[2]) {
#if PARTS
    __syncwarp(); // Other lanes had values here.
#endif
#pragma unroll
    for (int h = 0; h < 2; h++) {
        const float of_sum = inverse(sum[h]);
        const u32 row = h * 8 + w.lane / 4;
#pragma unroll
        for (u32 n = 0; n < DIM / 8; n++) {
            const u32 pair = Round<TQ>::pair(share(acc[n * 4 + h * 2], of_sum), share(acc[n * 4 + h * 2 + 1], of_sum));
            *reinterpret_cast<u32 *>(w.room + (row * CHUNKS + (n ^ row % 8)) * 16 + w.lane % 4 * 4) = pair;
        }
    }
    __syncwarp();
    const u32 first = tile.row + w.index * 64 + w.warp * 16;
#pragma unroll
    for (u32 i = 0; i < 16 * CHUNKS / 32; i++) {
        const u32 c = i * 32 + w.lane, in_warp = c / CHUNKS, chunk = c % CHUNKS, row = first + in_warp;
        if (row >= tile.rows) continue;
        TQ *out = a.out + size_t(tile.begin + row / a.group) * a.out_stride +
                  (tile.kv_head * a.group + row % a.group) * DIM + chunk * 8;
        store<8>(out, load<8>(reinterpret_cast<const TQ *>(w.room + (in_warp * CHUNKS + (chunk ^ in_warp % 8)) * 16)));
    }
    __syncwarp();
}

extern "C" __global__ void __launch_bounds__(128 * (WGS + 1), 1) attention_sm90(const __grid_constant__ Args a) {
    extern __shared__ __align__(1024) unsigned char smem[];
    // Slots begin at multiples of 1024, after them the queries, the rooms of consumer warps, the mbarriers.
    const u32 at = shared_address(smem), slots = (at + 1023) / 1024 * 1024;
    unsigned char *const memory = smem + (slots - at), *const queries = memory + STAGES * SLOT, *const rooms = queries + QUERIES;
    const Barriers barriers = {slots + STAGES * SLOT + QUERIES + 4 * WGS * ROOM};
    if (threadIdx.x == 0) barriers.init();
    __syncthreads();
    take_turn();
    const u32 tiles = *a.count * a.kv_heads, warpgroup = threadIdx.x / 128;
    if (warpgroup == WGS) {
        give_registers<PRODUCER_REGISTERS>();
        produce(a, memory, barriers, tiles);
        return;
    }
    take_registers<CONSUMER_REGISTERS>();
    const u32 warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    const Warpgroup w = {a, queries + warpgroup * (QUERIES / WGS), rooms + warp * ROOM, slots, barriers, warpgroup, warp % 4, lane};
    Ring ring = {0, 0};
    Turns turns(barriers, warpgroup);
    u32 queries_parity = 0;
    for (Schedule schedule = {0, tiles}; schedule.any(); schedule.round++) {
        const Tile tile(a, schedule.tile());
        const Rows rows(a, tile, w);
        u32 q[DIM / 16][4], p[BLOCK / 16][4], slot = 0;
        w.take(q, queries_parity);
        queries_parity ^= 1;

        float max_score[2] = {-INFINITY_F, -INFINITY_F}, sum[2] = {0.0f, 0.0f}, factor[2], total[2], s[BLOCK / 2], acc[DIM / 2];
#pragma unroll
        for (int e = 0; e < DIM / 2; e++) acc[e] = 0.0f;
#if PARTS
        Whole whole = {reinterpret_cast<float *>(w.room) + lane, {}, {}, false};
#endif
        const u32 from = tile.from();
        u32 block = from;
        if (block < rows.to) {
            mbarrier_wait(barriers.full(ring.slot), ring.parity);
            turns.wait();
            wgmma_rows(q);
            wgmma_fence();
            w.multiply_keys(s, q, ring.slot);
            turns.pass();
            wgmma_wait<0>();
            wgmma_results(s);
            weigh_block(a, rows, block, s, max_score, factor, total);
            pack_block(p, s);
            slot = ring.slot;
            ring.next();
            for (block += BLOCK; block < rows.to; block += BLOCK) {
                mbarrier_wait(barriers.full(ring.slot), ring.parity);
                turns.wait();
                wgmma_rows(p);
                wgmma_results(acc);
                wgmma_fence();
                w.multiply_keys(s, q, ring.slot);
                w.add_values(acc, p, slot);
                turns.pass();
                add_totals(sum, factor, total); // Of the block before, meanwhile.
                wgmma_wait<1>();
                wgmma_results(s);
#if PARTS
                const bool over = block % SPLIT == 0; // The part before this block.
                const float part_max[2] = {max_score[0], max_score[1]}, part_sum[2] = {sum[0], sum[1]};
                if (over) max_score[0] = max_score[1] = -INFINITY_F, sum[0] = sum[1] = 0.0f;
#endif
                weigh_block(a, rows, block, s, max_score, factor, total);
                // Where no greatest score has grown all factors are 1. The assembler would wait for the values before it
                // makes weights, but for a branch between the two that needs all weights: a total that is no number.
                bool same = factor[0] == 1.0f && factor[1] == 1.0f && total[0] >= 0.0f && total[1] >= 0.0f;
#if PARTS
                same = same && !over;
#endif
                if (__any_sync(0xffffffffu, !same)) {
                    wgmma_wait<0>();
                    wgmma_results(acc);
#if PARTS
                    if (over) whole.merge(acc, part_max, part_sum, a.scale);
#endif
#pragma unroll
                    for (int e = 0; e < DIM / 2; e++) acc[e] *= factor[e / 2 % 2];
                }
                wgmma_wait<0>();
                wgmma_results(acc);
                w.release(slot);
                pack_block(p, s);
                slot = ring.slot;
                ring.next();
            }
            turns.wait();
            wgmma_rows(p);
            wgmma_results(acc);
            wgmma_fence();
            w.add_values(acc, p, slot);
            turns.pass();
            add_totals(sum, factor, total);
            wgmma_wait<0>();
            wgmma_results(acc);
            w.release(slot);
        } else {
            turns.wait();
            turns.pass();
        }
        // Blocks that only other warpgroups see.
        for (; block <= tile.last; block += BLOCK) {
            mbarrier_wait(barriers.full(ring.slot), ring.parity);
            w.release(ring.slot);
            ring.next();
            turns.wait();
            turns.pass();
        }
#if PARTS
        whole.finish(acc, max_score, sum, a.scale);
#endif
        write(a, tile, w, acc, sum);
    }
}
