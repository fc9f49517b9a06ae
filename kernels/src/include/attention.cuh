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
    return Rescale{max_score, exp2f((max_a - base) * scale), exp2f((max_b - base) * scale)};
}

// a * factor_a + b * factor_b; exactly b if the first side is empty, exactly a if the second is.
__device__ __forceinline__ float blend(const Rescale &u, float a, float b) {
    return fmaf(b, u.factor_b, a * u.factor_a);
}

// What is stored of a row: zero's sign must not tell which empty blocks were walked.
__device__ __forceinline__ float share(float value, float sum) {
    return (sum == 0.0f ? 0.0f : value / sum) + 0.0f;
}
