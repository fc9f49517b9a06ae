// What the walk over KV and the merge of its parts share.
//
// The contract: a row's KV is walked in blocks of BLOCK positions at absolute multiples of BLOCK with an
// online softmax; what belongs to each SPLIT positions at absolute multiples of SPLIT is summed from
// nothing, and the parts are merged in ascending order. Prefill walks and merges in one place; decode
// walks the parts in parallel and merges them in `attention_merge`, in the same order and arithmetic.
#pragma once
#include "number.cuh"

// A tile of query rows of one sequence. Row r of the sequence is head r % group of its token r / group.
struct Item {
    u32 seq;
    u32 row;   // the first row of the tile
    u32 part;  // the one part to walk, or ALL
    u32 slot;  // where the part's state goes, or NOWHERE if it is the whole
};

#define ALL 0xffffffffu
#define NOWHERE 0xffffffffu

// How two states (greatest score, sum, values) merge: the greater score, and the factor of each state.
// Scores are unscaled; `scale` holds log2(e) too.
struct Rescale {
    float max_score, factor_a, factor_b;
};

__device__ __forceinline__ Rescale rescale(float max_a, float max_b, float scale) {
    const float max_score = fmaxf(max_a, max_b);
    // Where neither side has seen a position, both weights are exp2(-inf) = 0. The difference comes
    // first, so that the side with the greatest score weighs exactly 1.
    const float base = max_score == -INFINITY_F ? 0.0f : max_score;
    return Rescale{max_score, exp2_ftz((max_a - base) * scale), exp2_ftz((max_b - base) * scale)};
}

// a * factor_a + b * factor_b; exactly b if the first side is empty, exactly a if the second is.
__device__ __forceinline__ float blend(const Rescale &u, float a, float b) {
    return fmaf(b, u.factor_b, a * u.factor_a);
}

// What a row's values are multiplied by in the end; 0 if it saw nothing.
__device__ __forceinline__ float inverse(float sum) { return sum == 0.0f ? 0.0f : 1.0f / sum; }

// What is stored of a row: zero's sign must not tell which empty blocks were walked.
__device__ __forceinline__ float share(float value, float inverse) {
    return fmaf(value, inverse, 0.0f);
}

// A lane holds scores of a block for two rows, 16 * warp + lane / 4 and 8 below, in the layout of accumulators: of each 8
// positions 2 (lane % 4) and the next of the first row, then of the second.

// Bounds scores by a soft cap.
template <int N> __device__ __forceinline__ void bound(float (&s)[N][4], float inner_scale) {
#pragma unroll
    for (int n = 0; n < N; n++)
#pragma unroll
        for (int e = 0; e < 4; e++) s[n][e] = tanhf(s[n][e] * inner_scale);
}

// Hides the positions that the rows do not see.
template <int N>
__device__ __forceinline__ void mask(float (&s)[N][4], u32 block, const u32 (&pos)[2], const u32 (&first)[2]) {
#pragma unroll
    for (int n = 0; n < N; n++)
#pragma unroll
        for (int e = 0; e < 4; e++) {
            const u32 p = block + n * 8 + threadIdx.x % 4 * 2 + e % 2;
            if (p > pos[e / 2] || p < first[e / 2]) s[n][e] = -INFINITY_F;
        }
}

// The greatest scores of two rows, each over the four lanes that hold it. The two rows go side by side, here and below: their
// chains hide each other's latency.
template <int N> __device__ __forceinline__ void find_greatest(const float (&s)[N][4], float (&greatest)[2]) {
#pragma unroll
    for (int h = 0; h < 2; h++) {
        float even = s[0][h * 2], odd = s[0][h * 2 + 1];
#pragma unroll
        for (int n = 1; n < N; n++) even = fmaxf(even, s[n][h * 2]), odd = fmaxf(odd, s[n][h * 2 + 1]);
        greatest[h] = fmaxf(even, odd);
    }
#pragma unroll
    for (int apart = 1; apart < 4; apart *= 2)
#pragma unroll
        for (int h = 0; h < 2; h++) greatest[h] = fmaxf(greatest[h], __shfl_xor_sync(0xffffffffu, greatest[h], apart));
}

// Scores become weights, by the rows' greatest scores so far. `total` is this lane's part of what is added to the sums.
template <int N>
__device__ __forceinline__ void weigh_by(float (&s)[N][4], const float (&max_score)[2], float (&total)[2], float scale) {
    float base[2];
#pragma unroll
    for (int h = 0; h < 2; h++) {
        base[h] = max_score[h] == -INFINITY_F ? 0.0f : max_score[h] * scale;
        total[h] = 0.0f;
    }
#pragma unroll
    for (int n = 0; n < N; n++)
#pragma unroll
        for (int e = 0; e < 4; e++) {
            s[n][e] = exp2_ftz(fmaf(s[n][e], scale, -base[e / 2]));
            total[e / 2] += s[n][e];
        }
}

// The softmax of two rows: scores become weights. `factor` is what the sums so far are multiplied by.
template <int N>
__device__ __forceinline__ void weigh(float (&s)[N][4], float (&max_score)[2], float (&factor)[2], float (&total)[2], float scale) {
    float greatest[2];
    find_greatest(s, greatest);
#pragma unroll
    for (int h = 0; h < 2; h++) {
        const Rescale u = rescale(max_score[h], greatest[h], scale);
        max_score[h] = u.max_score;
        factor[h] = u.factor_a;
    }
    weigh_by(s, max_score, total, scale);
}

// The totals of two rows, each over the four lanes.
__device__ __forceinline__ void add_lanes(float (&total)[2]) {
#pragma unroll
    for (int apart = 1; apart < 4; apart *= 2)
#pragma unroll
        for (int h = 0; h < 2; h++) total[h] += __shfl_xor_sync(0xffffffffu, total[h], apart);
}

// Adds a block's totals, each over the four lanes, to the sums of two rows.
__device__ __forceinline__ void add_totals(float (&sum)[2], const float (&factor)[2], const float (&total)[2]) {
    float row[2] = {total[0], total[1]};
    add_lanes(row);
#pragma unroll
    for (int h = 0; h < 2; h++) sum[h] = fmaf(sum[h], factor[h], row[h]);
}

// Weights as the operand of the next product, 16 positions for each: the accumulator layout of scores is its layout.
template <class T, int N> __device__ __forceinline__ void pack(u32 (&p)[N / 2][4], const float (&s)[N][4]) {
#pragma unroll
    for (int k = 0; k < N / 2; k++)
#pragma unroll
        for (int i = 0; i < 4; i++) p[k][i] = Round<T>::pair(s[2 * k + i / 2][i % 2 * 2], s[2 * k + i / 2][i % 2 * 2 + 1]);
}
