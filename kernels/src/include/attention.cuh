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

// The weights of two states (greatest score, sum, values) in their union.
// Scores are unscaled; `scale` holds log2(e) too.
struct Union {
    float most, fade_a, fade_b;
};

__device__ __forceinline__ Union unite(float most_a, float most_b, float scale) {
    const float most = fmaxf(most_a, most_b);
    // Where neither side has seen a position, both weights are exp2(-inf) = 0. The difference comes
    // first, so that the side with the greatest score weighs exactly 1.
    const float base = most == -INFINITY_F ? 0.0f : most;
    return Union{most, exp2f((most_a - base) * scale), exp2f((most_b - base) * scale)};
}

// a * fade_a + b * fade_b; exactly b if the first side is empty, exactly a if the second is.
__device__ __forceinline__ float blend(const Union &u, float a, float b) {
    return fmaf(b, u.fade_b, a * u.fade_a);
}

// What is stored of a row: zero's sign must not tell which empty blocks were walked.
__device__ __forceinline__ float share(float value, float sum) {
    return (sum == 0.0f ? 0.0f : value / sum) + 0.0f;
}
