// What the kernels of Sample share: rows, parts of rows, and reductions over a block.
//
// A row's logits are taken in parts of PART tokens, whose number the vocabulary alone decides. Every sum runs in an order
// that depends on nothing else: a thread adds its own tokens in ascending order, warps add their lanes in a butterfly, the
// warps are added in order, and parts like tokens.
// -DTHREADS: threads of a block; -DPART.
#pragma once
#include "number.cuh"

#define WARPS (THREADS / 32)
#define NONE 0xffffffffu

struct SampleRow {
    float temperature, top_p, min_p;
    u32 top_k, key_lo, key_hi, position, seq_slot, target, mask, adjust_start, adjust_len, logprobs;
    u32 target_start, target_len, reserved;
};

struct Adjustment {
    u32 token;
    float repetition, bias;
    u32 raw; // the raw logit's bits, while the adjusted one stands in its place
};

struct Best {
    float value;
    u32 id;
};

// What is known of a part of a row.
struct Part {
    Best raw;    // the greatest raw logit
    float mass;  // the sum of exp(logit - raw.value); not finite if a logit is not
    Best best;   // the greatest logit that sampling sees
    float weight; // the sum of exp((logit - best.value) / temperature), where a token is drawn
    Best next;   // room for the kernel that finishes the row
};

struct Args {
    const u32 *rows;
    float *logits;
    const SampleRow *sampling;
    Adjustment *adjustments;
    const u32 *masks;
    const u32 *targets;
    u32 *last;
    u32 *out; // [rows, 2 + 2 * MAX_LOGPROBS]
    float *target_logprobs;
    Part *parts; // [rows, count]
    u32 vocab;
    u32 stride;
    u32 mask_words;
    u32 count; // parts of a row
};

// Greater values first, then lower ids.
__device__ __forceinline__ bool before(const Best &a, const Best &b) {
    return a.value > b.value || (a.value == b.value && a.id < b.id);
}

struct Sums {
    float sums[WARPS];
    u32 ids[WARPS];
};

// ---- reductions over the block; each ends with every thread holding the result ----

__device__ __forceinline__ float block_sum(Sums &s, float x) {
    x = warp_sum(x);
    __syncthreads();
    if (threadIdx.x % 32 == 0) s.sums[threadIdx.x / 32] = x;
    __syncthreads();
    x = 0.0f;
    for (int w = 0; w < WARPS; w++) x += s.sums[w];
    return x;
}

__device__ __forceinline__ Best block_best(Sums &s, Best best) {
#pragma unroll
    for (int lane = 16; lane > 0; lane >>= 1) {
        Best other{__shfl_xor_sync(0xffffffffu, best.value, lane), __shfl_xor_sync(0xffffffffu, best.id, lane)};
        if (before(other, best)) best = other;
    }
    __syncthreads();
    if (threadIdx.x % 32 == 0) {
        s.sums[threadIdx.x / 32] = best.value;
        s.ids[threadIdx.x / 32] = best.id;
    }
    __syncthreads();
    for (int w = 0; w < WARPS; w++) {
        Best other{s.sums[w], s.ids[w]};
        if (before(other, best)) best = other;
    }
    return best;
}
