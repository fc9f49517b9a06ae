// Rotates pairs (i, i + rotary/2) of each head by the angles of the token's position, and stores keys
// and values in their KV slots. One block for each token; either part may be absent.
// -DTX: type of q, k, v; -DTT: type of the table; -DTP: type of the pages; -DVEC: columns moved together.
#include "pages.cuh"

struct Args {
    const u32 *rows;
    const u32 *positions;
    const TT *table;  // [positions, rotary]: cosines, then sines
    TX *q;            // rotated in place, or null
    TX *k;            // rotated in place (with a table) and stored (with pages), or null
    const TX *v;      // stored
    const u32 *kv_slots;
    TP *k_pages;
    TP *v_pages;
    u32 q_heads;
    u32 k_heads;
    u32 head_dim;
    u32 rotary;
    u32 q_stride;
    u32 k_stride;
    u32 v_stride;
    u32 v_cols;
};

// What a thread moves: VEC pairs of a head, or VEC columns of it that are left alone.
struct Place {
    u32 lo, hi; // Columns; the angles of a pair are those of its first.
    u32 angle;
    bool rotated;
};

__device__ __forceinline__ Place place(const Args &a, u32 i) {
    const u32 half = a.rotary / 2, packs = (a.head_dim - half) / VEC; // of a head: the pairs, then what is left alone
    const u32 c = i % packs * VEC, lo = i / packs * a.head_dim + c;
    return {lo, lo + half, c, c < half};
}

// Rotates VEC pairs of x, and stores them in `page`, of so many columns, if there is one.
__device__ __forceinline__ void rotate(const Args &a, const TT *angles, const Place &at, TX *x, TP *page, u32 cols) {
    if (at.rotated) {
        const u32 half = a.rotary / 2;
        const Pack<TT, VEC> cos = load<VEC>(angles + at.angle), sin = load<VEC>(angles + half + at.angle);
        const Pack<TX, VEC> x0 = load<VEC>(x + at.lo), x1 = load<VEC>(x + at.hi);
        Pack<TX, VEC> y0, y1;
#pragma unroll
        for (int j = 0; j < VEC; j++) {
            const float r = to_f32(x0.at[j]), s = to_f32(x1.at[j]);
            y0.at[j] = Round<TX>::of(fmaf(r, to_f32(cos.at[j]), -(s * to_f32(sin.at[j]))));
            y1.at[j] = Round<TX>::of(fmaf(s, to_f32(cos.at[j]), r * to_f32(sin.at[j])));
        }
        store<VEC>(x + at.lo, y0);
        store<VEC>(x + at.hi, y1);
        if (page) {
            store_columns<VEC>(page, at.lo, cols, y0);
            store_columns<VEC>(page, at.hi, cols, y1);
        }
    } else if (page) {
        // Columns half .. rotary are the upper halves of pairs; those left alone follow them.
        store_columns<VEC>(page, at.hi, cols, load<VEC>(x + at.hi));
    }
}

extern "C" __global__ void rope(Args a) {
    let_next_kernel_start();
    const size_t t = blockIdx.x;
    // Inputs of the step.
    const bool inside = t < *a.rows;
    const u32 position = inside && a.table ? a.positions[t] : 0;
    const size_t slot = inside && a.k_pages ? a.kv_slots[t] : 0;
    const u32 packs = (a.head_dim - a.rotary / 2) / VEC;
    const u32 queries = a.q ? a.q_heads * packs : 0, keys = a.k ? a.k_heads * packs : 0;
    const u32 values = a.v_pages ? a.v_cols / VEC : 0;
    wait_for_kernels_before();
    if (!inside) return;
    const TT *angles = a.table ? a.table + size_t(position) * a.rotary : nullptr;
    TX *const q = a.q ? a.q + t * a.q_stride : nullptr, *const k = a.k ? a.k + t * a.k_stride : nullptr;
    const u32 key_cols = a.k_heads * a.head_dim;
    TP *const page = a.k_pages ? a.k_pages + slot * key_cols : nullptr;
    // Queries, keys and values go side by side, so that none waits for another's way from memory.
    for (u32 i = threadIdx.x; i < queries + keys + values; i += blockDim.x) {
        if (i < queries) {
            rotate(a, angles, place(a, i), q, nullptr, 0);
        } else if (i < queries + keys) {
            rotate(a, angles, place(a, i - queries), k, page, key_cols);
        } else {
            const u32 col = (i - queries - keys) * VEC;
            store_columns<VEC>(a.v_pages + slot * a.v_cols, col, a.v_cols, load<VEC>(a.v + t * a.v_stride + col));
        }
    }
}
