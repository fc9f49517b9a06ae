// What the kernels of attention on mma.sync share: their arguments, what a tile of query rows walks, and its results.
//
// -DTQ: type of q and out (bf16 or f16); -DFP8: 1 if pages are e4m3, else they are of that type too; -DDIM: head_dim, a
// multiple of 16; -DSPLIT: positions of a part; -DBLOCK: positions walked together.
#pragma once
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

// An item of a KV head, and what it walks.
struct Tile {
    Item item;
    u32 kv_head;
    u32 begin; // the first token of the sequence
    u32 rows;  // query rows of the sequence
    u32 high;  // the last row of the tile
    u32 first; // the first position that a row of the tile sees
    u32 from;  // positions to walk: from the block of `first`, or from where the part begins,
    u32 to;    // to here; none if that is not beyond
};

// An item with so many query rows.
__device__ __forceinline__ Tile open(const Args &a, const Item &item, u32 kv_head, u32 height) {
    Tile t;
    t.item = item;
    t.kv_head = kv_head;
    t.begin = a.query_start[item.seq];
    t.rows = (a.query_start[item.seq + 1] - t.begin) * a.group;
    t.high = min(item.row + height, t.rows) - 1;
    const u32 lowest = a.positions[t.begin + item.row / a.group]; // positions ascend within a sequence
    t.first = a.window && lowest + 1 > a.window ? lowest + 1 - a.window : 0;
    t.from = t.first / BLOCK * BLOCK;
    t.to = a.positions[t.begin + t.high / a.group] + 1;
    if (item.part != ALL) {
        t.from = max(t.from, item.part * SPLIT);
        t.to = min(t.to, (item.part + 1) * SPLIT);
    }
    return t;
}

// What this lane's two rows see: rows lane / 4 of 16 from `row` on, and 8 below.
__device__ __forceinline__ void see(const Args &a, const Tile &t, u32 row, u32 (&pos)[2], u32 (&first)[2]) {
#pragma unroll
    for (int h = 0; h < 2; h++) {
        pos[h] = a.positions[t.begin + min(row + h * 8 + threadIdx.x % 32 / 4, t.high) / a.group];
        first[h] = a.window && pos[h] + 1 > a.window ? pos[h] + 1 - a.window : 0;
    }
}

// Stores this lane's columns of its two rows, 8 VALUES from one on, or their state; `in_tile` is the first one's row.
template <int VALUES>
__device__ __forceinline__ void finish(const Args &a, const Tile &t, u32 in_tile, u32 column, const float (&acc)[VALUES][4],
                                       const float (&max_score)[2], const float (&sum)[2]) {
    const u32 lane = threadIdx.x % 32, own = column + lane % 4 * 2;
#pragma unroll
    for (int h = 0; h < 2; h++) {
        const u32 in = in_tile + h * 8, row = t.item.row + in;
        if (row >= t.rows) continue;
        if (t.item.slot == NOWHERE) {
            const float of_sum = inverse(sum[h]);
            TQ *out = a.out + size_t(t.begin + row / a.group) * a.out_stride +
                      (t.kv_head * a.group + row % a.group) * DIM + own;
#pragma unroll
            for (int n = 0; n < VALUES; n++) {
                const float lo = share(acc[n][h * 2], of_sum), hi = share(acc[n][h * 2 + 1], of_sum);
                store<2>(out + n * 8, Pack<TQ, 2>{{Round<TQ>::of(lo), Round<TQ>::of(hi)}});
            }
        } else {
            float *state = a.states + ((size_t(t.item.slot) * a.kv_heads + t.kv_head) * a.state_rows + in) * (DIM + 2);
#pragma unroll
            for (int n = 0; n < VALUES; n++)
                store<2>(state + own + n * 8, Pack<float, 2>{{acc[n][h * 2], acc[n][h * 2 + 1]}});
            if (own == 0) store<2>(state + DIM, Pack<float, 2>{{max_score[h], sum[h]}});
        }
    }
}
