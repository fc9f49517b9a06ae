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

// Rotates `heads` heads at x, and stores them in `page` if there is one.
__device__ __forceinline__ void rotate(const Args &a, const TT *angles, TX *x, u32 heads, TP *page) {
    const u32 half = a.rotary / 2;
    const u32 packs = (a.head_dim - half) / VEC; // of a head: the rotated pairs, then the columns left alone
    for (u32 i = threadIdx.x; i < heads * packs; i += blockDim.x) {
        const u32 head = i / packs, c = i % packs * VEC;
        const u32 lo = head * a.head_dim + c, hi = lo + half;
        if (c < half) {
            const Pack<TT, VEC> cos = load<VEC>(angles + c), sin = load<VEC>(angles + half + c);
            const Pack<TX, VEC> x0 = load<VEC>(x + lo), x1 = load<VEC>(x + hi);
            Pack<TX, VEC> y0, y1;
#pragma unroll
            for (int j = 0; j < VEC; j++) {
                const float r = to_f32(x0.at[j]), s = to_f32(x1.at[j]);
                y0.at[j] = Round<TX>::of(fmaf(r, to_f32(cos.at[j]), -(s * to_f32(sin.at[j]))));
                y1.at[j] = Round<TX>::of(fmaf(s, to_f32(cos.at[j]), r * to_f32(sin.at[j])));
            }
            store<VEC>(x + lo, y0);
            store<VEC>(x + hi, y1);
            if (page) {
                store_columns<VEC>(page, lo, heads * a.head_dim, y0);
                store_columns<VEC>(page, hi, heads * a.head_dim, y1);
            }
        } else if (page) {
            // Columns half .. rotary are the upper halves of pairs; those left alone follow them.
            store_columns<VEC>(page, hi, heads * a.head_dim, load<VEC>(x + hi));
        }
    }
}

extern "C" __global__ void rope(Args a) {
    let_next_kernel_start();
    const size_t t = blockIdx.x;
    // Inputs of the step.
    const bool inside = t < *a.rows;
    const u32 position = inside && a.table ? a.positions[t] : 0;
    const size_t slot = inside && a.k_pages ? a.kv_slots[t] : 0;
    wait_for_kernels_before();
    if (!inside) return;
    const TT *angles = a.table ? a.table + size_t(position) * a.rotary : nullptr;
    if (a.q) rotate(a, angles, a.q + t * a.q_stride, a.q_heads, nullptr);
    if (a.k) {
        TP *page = a.k_pages ? a.k_pages + slot * (a.k_heads * a.head_dim) : nullptr;
        rotate(a, angles, a.k + t * a.k_stride, a.k_heads, page);
    }
    if (a.v_pages) {
        TP *page = a.v_pages + slot * a.v_cols;
        for (u32 i = threadIdx.x * VEC; i < a.v_cols; i += blockDim.x * VEC)
            store_columns<VEC>(page, i, a.v_cols, load<VEC>(a.v + t * a.v_stride + i));
    }
}
