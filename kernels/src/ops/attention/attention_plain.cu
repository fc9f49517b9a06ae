// Attention for any types and head widths. One warp for each token and head; KV is walked in
// blocks of 32 positions at absolute multiples of 32 with an online softmax.
// -DTQ: type of q and out; -DTP: type of the pages; -DDIM: head_dim rounded up to 32;
// -DSOFTCAP: 1 to bound the scores.
#include "pages.cuh"

struct Args {
    const u32 *tokens;
    const u32 *seqs;
    const TQ *q;
    const TP *k_pages;
    const TP *v_pages;
    const u32 *positions;
    const u32 *query_start;
    const u32 *block_tables;
    TQ *out;
    u32 heads;
    u32 kv_heads;
    u32 head_dim;
    u32 q_stride;
    u32 out_stride;
    u32 pages_per_seq;
    u32 page_size;
    u32 window; // 0: none
    float scale;
    float softcap;
};

extern "C" __global__ void __launch_bounds__(32) attention_plain(Args a) {
    take_turn();
    const u32 t = blockIdx.x, head = blockIdx.y, lane = threadIdx.x;
    if (t >= *a.tokens) return;
    // The sequence of the token: the last that starts at or before it.
    u32 seq = 0, end = *a.seqs;
    while (seq + 1 < end) {
        const u32 mid = (seq + end) / 2;
        if (a.query_start[mid] <= t) seq = mid;
        else end = mid;
    }
    const u32 pos = a.positions[t];
    const u32 first = a.window && pos + 1 > a.window ? pos + 1 - a.window : 0;
    const u32 *pages = a.block_tables + size_t(seq) * a.pages_per_seq;
    const u32 kv_head = head / (a.heads / a.kv_heads);
    const u32 row = a.kv_heads * a.head_dim, col = kv_head * a.head_dim;
    const TQ *q = a.q + size_t(t) * a.q_stride + size_t(head) * a.head_dim;

    float max_score = -INFINITY_F, sum = 0.0f, acc[DIM / 32];
#pragma unroll
    for (int i = 0; i < DIM / 32; i++) acc[i] = 0.0f;

    for (u32 block = first / 32 * 32; block <= pos; block += 32) {
        const u32 p = block + lane;
        const bool seen = p >= first && p <= pos;
        size_t at = 0;
        float s = -INFINITY_F;
        if (seen) {
            at = (size_t(pages[p / a.page_size]) * a.page_size + p % a.page_size) * row;
            float dot = 0.0f;
            for (u32 d = 0; d < a.head_dim; d++)
                dot = fmaf(to_f32(q[d]), to_f32(a.k_pages[at + PageColumn<TP>::of(col + d, row)]), dot);
            s = dot * a.scale;
#if SOFTCAP
            s = a.softcap * tanhf(s / a.softcap);
#endif
        }
        const float new_max = fmaxf(max_score, warp_max(s));
        const float base = new_max == -INFINITY_F ? 0.0f : new_max;
        const float factor = expf(max_score - base);
        const float w = expf(s - base);
        max_score = new_max;
        sum = fmaf(sum, factor, warp_sum(w));
#pragma unroll
        for (int i = 0; i < DIM / 32; i++) acc[i] *= factor;
        for (u32 j = 0; j < 32; j++) {
            const float wj = __shfl_sync(0xffffffffu, w, j);
            const u32 lo = __shfl_sync(0xffffffffu, u32(at), j);
            const u32 hi = __shfl_sync(0xffffffffu, u32(at >> 32), j);
            if (block + j < first || block + j > pos) continue;
            const TP *v = a.v_pages + (size_t(hi) << 32 | lo);
#pragma unroll
            for (int i = 0; i < DIM / 32; i++) {
                const u32 d = i * 32 + lane;
                if (d < a.head_dim) acc[i] = fmaf(wj, to_f32(v[PageColumn<TP>::of(col + d, row)]), acc[i]);
            }
        }
    }
    TQ *out = a.out + size_t(t) * a.out_stride + size_t(head) * a.head_dim;
#pragma unroll
    for (int i = 0; i < DIM / 32; i++) {
        const u32 d = i * 32 + lane;
        if (d < a.head_dim) out[d] = Round<TQ>::of(acc[i] / sum + 0.0f);
    }
}
