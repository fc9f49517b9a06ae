// Chooses a token from each row of logits; engine::sample defines what is chosen. One block for each row.
//
// Every sum runs in an order that the vocabulary alone decides: a thread adds its own tokens in ascending
// order, warps add their lanes in a butterfly, and the warps are added in order. The thresholds of top_k
// and top_p are found by radix: sixteen bins for each four bits of the ordered key, a column of each
// thread's own in shared memory, so that nothing is added by atomics.
//
// Adjusted logits are written over the raw ones, which wait in the adjustment's spare word until the row is done.
// -DTHREADS: threads of a block; -DMAX_LOGPROBS.
#include "number.cuh"

#define WARPS (THREADS / 32)
#define NONE 0xffffffffu
#define BINS 16
#define SEGMENTS 1024

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
    u32 vocab;
    u32 stride;
    u32 mask_words;
    u32 pad;
};

struct Shared {
    float bins[BINS][THREADS];
    float totals[BINS];
    float sums[WARPS];
    u32 ids[WARPS];
};

// ---- reductions over the block; each ends with every thread holding the result ----

__device__ float block_sum(Shared &s, float x) {
    x = warp_sum(x);
    __syncthreads();
    if (threadIdx.x % 32 == 0) s.sums[threadIdx.x / 32] = x;
    __syncthreads();
    x = 0.0f;
    for (int w = 0; w < WARPS; w++) x += s.sums[w];
    return x;
}

__device__ float block_max(Shared &s, float x) {
    x = warp_max(x);
    __syncthreads();
    if (threadIdx.x % 32 == 0) s.sums[threadIdx.x / 32] = x;
    __syncthreads();
    for (int w = 0; w < WARPS; w++) x = fmaxf(x, s.sums[w]);
    return x;
}

struct Best {
    float value;
    u32 id;
};

// Greater values first, then lower ids.
__device__ __forceinline__ bool before(const Best &a, const Best &b) {
    return a.value > b.value || (a.value == b.value && a.id < b.id);
}

__device__ Best block_best(Shared &s, Best best) {
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

// ---- the row as sampling sees it ----

struct Row {
    const float *logits;
    const u32 *mask; // null: all tokens are allowed
    u32 vocab;
    float temperature;
    float max_logit;   // the greatest tempered logit
    u32 at_least; // the ordered key below which tokens are dropped
    float min_p;

    __device__ __forceinline__ float logit(u32 t) const {
        if (mask && !(mask[t / 32] >> (t % 32) & 1)) return -INFINITY_F;
        return logits[t];
    }
    __device__ __forceinline__ float tempered(u32 t) const { return logit(t) / temperature; }
    __device__ __forceinline__ float weight(float tempered) const { return expf(tempered - max_logit); }
    // The weight of a token if it is kept, else 0.
    __device__ __forceinline__ float kept(u32 t) const;
};

// Orders floats as unsigned integers; both zeros are one.
__device__ __forceinline__ u32 ordered(float x) {
    const u32 bits = __float_as_uint(x + 0.0f);
    return bits >> 31 ? ~bits : bits | 0x80000000u;
}

__device__ __forceinline__ float Row::kept(u32 t) const {
    const float x = tempered(t);
    const float w = weight(x);
    return ordered(x) >= at_least && w >= min_p ? w : 0.0f;
}

// Adds up, for tokens that share the upper bits of `prefix`, counts or weights by the next four bits.
template <bool MASS> __device__ void fill_bins(Shared &s, const Row &row, u32 prefix, int shift) {
    __syncthreads();
#pragma unroll
    for (int b = 0; b < BINS; b++) s.bins[b][threadIdx.x] = 0.0f;
    for (u32 t = threadIdx.x; t < row.vocab; t += THREADS) {
        const float x = row.tempered(t);
        const u32 key = ordered(x);
        if (key < row.at_least || (shift < 28 && key >> (shift + 4) != prefix >> (shift + 4))) continue;
        s.bins[key >> shift & 15][threadIdx.x] += MASS ? row.weight(x) : 1.0f;
    }
    __syncthreads();
    // Warp b adds up bin b. Counts stay below 2^24 and are exact.
    const u32 lane = threadIdx.x % 32, bin = threadIdx.x / 32;
    float total = 0.0f;
    for (u32 i = lane; i < THREADS; i += 32) total += s.bins[bin][i];
    total = warp_sum(total);
    if (lane == 0) s.totals[bin] = total;
    __syncthreads();
}

// The least key that is kept when keys are taken in descending order until `enough` is reached.
template <bool MASS> __device__ u32 threshold(Shared &s, const Row &row, float enough) {
    u32 key = 0;
    float above = 0.0f;
    for (int shift = 28; shift >= 0; shift -= 4) {
        fill_bins<MASS>(s, row, key, shift);
        int bin = BINS - 1;
        while (bin > 0 && above + s.totals[bin] < enough) above += s.totals[bin--];
        key |= u32(bin) << shift;
    }
    return key;
}

// ---- the draw ----

// Philox4x32-10 with the row's key and the counter (position, 0, 0, 0): uniform in [0, 1), 24 bits.
__device__ float uniform(u32 key_lo, u32 key_hi, u32 position) {
    u32 c0 = position, c1 = 0, c2 = 0, c3 = 0;
    for (int round = 0; round < 10; round++) {
        const u64 a = u64(c0) * 0xD2511F53u, b = u64(c2) * 0xCD9E8D57u;
        c0 = u32(b >> 32) ^ c1 ^ key_lo;
        c1 = u32(b);
        c2 = u32(a >> 32) ^ c3 ^ key_hi;
        c3 = u32(a);
        key_lo += 0x9E3779B9u;
        key_hi += 0xBB67AE85u;
    }
    return float(c0 >> 8) * (1.0f / 16777216.0f);
}

// The sum of x over this lane and those below.
__device__ __forceinline__ float running(float x) {
#pragma unroll
    for (int d = 1; d < 32; d <<= 1) {
        const float below = __shfl_up_sync(0xffffffffu, x, d);
        if (threadIdx.x % 32 >= d) x += below;
    }
    return x;
}

// In the whole warp: the first of `count` weights at which the running sum exceeds `target`, or the last
// that is not zero. `sum` goes in as the sum before them and comes out as the sum before the chosen one.
template <class Weight> __device__ u32 cross(Weight weight, u32 count, float target, float &sum) {
    const u32 lane = threadIdx.x % 32;
    u32 chosen = 0;
    float before_chosen = sum, run = sum;
    for (u32 base = 0; base < count; base += 32) {
        const float w = base + lane < count ? weight(base + lane) : 0.0f;
        const float upto = running(w);
        const float below = __shfl_up_sync(0xffffffffu, upto, 1);
        const float start = run + (lane == 0 ? 0.0f : below);
        const u32 over = __ballot_sync(0xffffffffu, w > 0.0f && run + upto > target);
        const u32 some = __ballot_sync(0xffffffffu, w > 0.0f);
        if (some) {
            const u32 who = over ? __ffs(over) - 1 : 31 - __clz(some);
            chosen = base + who;
            before_chosen = __shfl_sync(0xffffffffu, start, who);
        }
        if (over) break;
        run += __shfl_sync(0xffffffffu, upto, 31);
    }
    sum = before_chosen;
    return chosen;
}

__device__ u32 draw(Shared &s, const Row &row, float u) {
    // Sums of neighbouring tokens first: a segment's size depends on the vocabulary only.
    float *segments = &s.bins[0][0];
    const u32 size = ((row.vocab + SEGMENTS - 1) / SEGMENTS + 31) / 32 * 32;
    const u32 count = (row.vocab + size - 1) / size;
    __syncthreads();
    for (u32 segment = threadIdx.x / 32; segment < count; segment += WARPS) {
        float sum = 0.0f;
        for (u32 i = threadIdx.x % 32; i < size; i += 32) {
            const u32 t = segment * size + i;
            if (t < row.vocab) sum += row.kept(t);
        }
        sum = warp_sum(sum);
        if (threadIdx.x % 32 == 0) segments[segment] = sum;
    }
    __syncthreads();
    u32 token = 0;
    if (threadIdx.x < 32) {
        auto segment_sum = [&](u32 i) { return segments[i]; };
        float total = 0.0f;
        for (u32 base = 0; base < count; base += 32) {
            const u32 i = base + threadIdx.x;
            total += __shfl_sync(0xffffffffu, running(i < count ? segments[i] : 0.0f), 31);
        }
        float sum = 0.0f;
        const u32 first = cross(segment_sum, count, u * total, sum) * size;
        auto token_weight = [&](u32 i) { return row.kept(first + i); };
        token = first + cross(token_weight, min(size, row.vocab - first), u * total, sum);
    }
    return token; // thread 0's counts
}

// ---- the kernel ----

extern "C" __global__ void __launch_bounds__(THREADS, 2) sample(Args a) {
    __shared__ Shared s;
    const u32 o = blockIdx.x;
    if (o >= *a.rows) return;
    const SampleRow how = a.sampling[o];
    float *logits = a.logits + size_t(o) * a.stride;
    u32 *out = a.out + size_t(o) * (2 + 2 * MAX_LOGPROBS);

    // The report is of the raw logits.
    float max_logit = -INFINITY_F, odd = 0.0f;
#pragma unroll 8
    for (u32 t = threadIdx.x; t < a.vocab; t += THREADS) {
        const float x = logits[t];
        max_logit = fmaxf(max_logit, x);
        if (!(fabsf(x) < INFINITY_F)) odd = 1.0f;
    }
    max_logit = block_max(s, max_logit);
    const bool finite = block_max(s, odd) == 0.0f;
    float mass = 0.0f;
#pragma unroll 8
    for (u32 t = threadIdx.x; t < a.vocab; t += THREADS) mass += expf(logits[t] - max_logit);
    const float log_mass = logf(block_sum(s, mass));
    const float nan = __int_as_float(0x7fc00000);

    for (u32 i = threadIdx.x; i < how.target_len; i += THREADS) {
        const u32 target = how.target_start + i;
        a.target_logprobs[target] = finite ? logits[a.targets[target]] - max_logit - log_mass : nan;
    }

    Best last{INFINITY_F, 0};
    for (u32 i = 0; i < MAX_LOGPROBS; i++) {
        if (i < how.logprobs && i < a.vocab && finite) {
            Best best{-INFINITY_F, NONE};
            for (u32 t = threadIdx.x; t < a.vocab; t += THREADS) {
                const Best here{logits[t], t};
                if ((i == 0 || before(last, here)) && before(here, best)) best = here;
            }
            last = block_best(s, best);
        }
        if (threadIdx.x == 0) {
            const bool there = i < how.logprobs && i < a.vocab && finite;
            out[2 + i] = there ? last.id : 0;
            out[2 + MAX_LOGPROBS + i] = __float_as_uint(there ? last.value - max_logit - log_mass : 0.0f);
        }
    }

    u32 token = how.target == NONE ? 0 : how.target;
    if (how.target == NONE && finite) {
        for (u32 i = threadIdx.x; i < how.adjust_len; i += THREADS) {
            Adjustment &adjust = a.adjustments[how.adjust_start + i];
            const float x = logits[adjust.token];
            adjust.raw = __float_as_uint(x);
            logits[adjust.token] = (x > 0.0f ? x / adjust.repetition : x * adjust.repetition) + adjust.bias;
        }
        __syncthreads();
        Row row{logits, how.mask == NONE ? nullptr : a.masks + size_t(how.mask) * a.mask_words, a.vocab,
                how.temperature == 0.0f ? 1.0f : how.temperature, 0.0f, 0, how.min_p};
        Best best{-INFINITY_F, NONE};
#pragma unroll 8
        for (u32 t = threadIdx.x; t < a.vocab; t += THREADS) {
            const Best here{row.logit(t), t};
            if (before(here, best)) best = here;
        }
        best = block_best(s, best);
        if (how.temperature == 0.0f || best.value == -INFINITY_F) {
            token = best.id < a.vocab ? best.id : 0;
        } else {
            row.max_logit = best.value / row.temperature;
            if (how.top_k > 0 && how.top_k < a.vocab) row.at_least = threshold<false>(s, row, float(how.top_k));
            if (how.top_p < 1.0f) {
                float left = 0.0f;
                for (u32 t = threadIdx.x; t < a.vocab; t += THREADS) {
                    const float x = row.tempered(t);
                    if (ordered(x) >= row.at_least) left += row.weight(x);
                }
                const u32 key = threshold<true>(s, row, how.top_p * block_sum(s, left));
                row.at_least = max(row.at_least, key);
            }
            token = draw(s, row, uniform(how.key_lo, how.key_hi, how.position));
        }
        // Nobody reads the adjusted logits any more.
        __syncthreads();
        for (u32 i = threadIdx.x; i < how.adjust_len; i += THREADS) {
            const Adjustment &adjust = a.adjustments[how.adjust_start + i];
            logits[adjust.token] = __uint_as_float(adjust.raw);
        }
        __syncthreads();
    }
    if (threadIdx.x == 0) {
        out[0] = token;
        out[1] = __float_as_uint(finite ? logits[token] - max_logit - log_mass : nan);
        if (how.seq_slot != NONE) a.last[how.seq_slot] = token;
    }
}
