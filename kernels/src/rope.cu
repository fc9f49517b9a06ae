// Rotates pairs (i, i + rotary/2) of each head by the angles of the token's position, and stores keys
// and values in their slots. One block for each token; either part may be absent.
// -DTX: type of q, k, v; -DTT: type of the table; -DTP: type of the pages.
#include "number.cuh"

struct Args {
    const u32 *rows;
    const u32 *positions;
    const TT *table;  // [positions, rotary]: cosines, then sines
    TX *q;            // rotated in place, or null
    TX *k;            // rotated in place (with a table) and stored (with pages), or null
    const TX *v;      // stored
    const u32 *slots;
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
    const u32 pairs = a.head_dim - half; // of a head: the rotated pairs, then the columns left alone
    for (u32 i = threadIdx.x; i < heads * pairs; i += blockDim.x) {
        const u32 head = i / pairs, c = i % pairs;
        const u32 lo = head * a.head_dim + c;
        if (c < half) {
            const u32 hi = lo + half;
            const float cos = to_f32(angles[c]), sin = to_f32(angles[half + c]);
            const float x0 = to_f32(x[lo]), x1 = to_f32(x[hi]);
            const TX y0 = Round<TX>::of(fmaf(x0, cos, -(x1 * sin)));
            const TX y1 = Round<TX>::of(fmaf(x1, cos, x0 * sin));
            x[lo] = y0;
            x[hi] = y1;
            if (page) {
                page[lo] = Round<TP>::of(to_f32(y0));
                page[hi] = Round<TP>::of(to_f32(y1));
            }
        } else if (page) {
            // Columns half .. rotary are the upper halves of pairs; those left alone follow them.
            const u32 col = lo + half;
            page[col] = Round<TP>::of(to_f32(x[col]));
        }
    }
}

extern "C" __global__ void rope(Args a) {
    const size_t t = blockIdx.x;
    if (t >= *a.rows) return;
    const TT *angles = a.table ? a.table + size_t(a.positions[t]) * a.rotary : nullptr;
    const size_t slot = a.k_pages ? a.slots[t] : 0;
    if (a.q) rotate(a, angles, a.q + t * a.q_stride, a.q_heads, nullptr);
    if (a.k) {
        TP *page = a.k_pages ? a.k_pages + slot * (a.k_heads * a.head_dim) : nullptr;
        rotate(a, angles, a.k + t * a.k_stride, a.k_heads, page);
    }
    if (a.v_pages) {
        for (u32 i = threadIdx.x; i < a.v_cols; i += blockDim.x) {
            a.v_pages[slot * a.v_cols + i] = Round<TP>::of(to_f32(a.v[t * a.v_stride + i]));
        }
    }
}
