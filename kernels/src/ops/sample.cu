// Chooses a token from each row of logits; engine::sample defines what is chosen. One block for each row, which
// `sample_parts.cu` has read once, part by part: most rows are done with what is known of their parts.
//
// Where top_k or top_p keep few tokens, these are found one after the other, each by the parts' greatest ones. Otherwise
// the thresholds are found by radix: sixteen bins for each four bits of the ordered key, a column of each thread's own in
// shared memory, so that nothing is added by atomics. Parts whose greatest logit is below what is kept are passed over.
// -DTHREADS: threads of a block; -DPART: tokens of a part; -DMAX_LOGPROBS.
#include "sample.cuh"

#define BINS 16
// Tokens that are looked for one by one.
#define FEW 64
// Tokens of a part that a warp adds up.
#define PIECE (PART / WARPS)

struct Shared {
    float bins[BINS][THREADS];
    float totals[BINS];
    Sums sums;
};

// ---- the row as sampling sees it ----

struct Row {
    const float *logits;
    const u32 *mask; // null: all tokens are allowed
    Part *parts;
    u32 vocab;
    u32 count; // parts
    float temperature;
    float max_logit; // the greatest tempered logit
    u32 at_least;    // the ordered key below which tokens are dropped
    float min_p;

    __device__ __forceinline__ float logit(u32 t) const {
        if (mask && !(mask[t / 32] >> (t % 32) & 1)) return -INFINITY_F;
        return logits[t];
    }
    __device__ __forceinline__ float tempered(u32 t) const { return logit(t) / temperature; }
    __device__ __forceinline__ float weight(float tempered) const { return expf(tempered - max_logit); }
    // The weight of a token if it is kept, else 0.
    __device__ __forceinline__ float kept(u32 t) const;
    // Whether a part has tokens of this key or above.
    __device__ __forceinline__ bool reaches(u32 part, u32 key) const;
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

__device__ __forceinline__ bool Row::reaches(u32 part, u32 key) const {
    return ordered(parts[part].best.value / temperature) >= key;
}

// Calls `visit` with each token of the parts that have one of this key or above.
template <class Visit> __device__ __forceinline__ void for_parts(const Row &row, u32 key, Visit visit) {
    for (u32 part = 0; part < row.count; part++) {
        if (!row.reaches(part, key)) continue;
#pragma unroll
        for (int i = 0; i < PART / THREADS; i++) {
            const u32 t = part * PART + i * THREADS + threadIdx.x;
            if (t < row.vocab) visit(t);
        }
    }
}

// The sum over all parts of a value of each.
template <class Value> __device__ __forceinline__ float sum_of_parts(Shared &s, u32 count, Value value) {
    float sum = 0.0f;
    for (u32 part = threadIdx.x; part < count; part += THREADS) sum += value(part);
    return block_sum(s.sums, sum);
}

// The greatest of the parts' greatest.
template <class Value> __device__ __forceinline__ Best best_of_parts(Shared &s, u32 count, Value value) {
    Best best{-INFINITY_F, NONE};
    for (u32 part = threadIdx.x; part < count; part += THREADS) {
        const Best here = value(part);
        if (before(here, best)) best = here;
    }
    return block_best(s.sums, best);
}

// Hands tokens to `take`, the greatest first, until it has enough or there are no more; `logit` and `greatest` say what
// is compared, of a token and of a part. Only the part that had the last one is looked through for its next.
template <class Logit, class Greatest, class Take>
__device__ __forceinline__ void descend(Shared &s, Part *parts, u32 count, u32 vocab, Logit logit, Greatest greatest,
                                        Take take) {
    __syncthreads();
    for (u32 part = threadIdx.x; part < count; part += THREADS) parts[part].next = greatest(part);
    while (true) {
        __syncthreads();
        const Best best = best_of_parts(s, count, [&](u32 part) { return parts[part].next; });
        if (best.id == NONE || !take(best)) return;
        const u32 part = best.id / PART;
        Best next{-INFINITY_F, NONE};
#pragma unroll
        for (int i = 0; i < PART / THREADS; i++) {
            const u32 t = part * PART + i * THREADS + threadIdx.x;
            if (t >= vocab) continue;
            const Best here{logit(t), t};
            if (before(best, here) && before(here, next)) next = here;
        }
        next = block_best(s.sums, next);
        if (threadIdx.x == 0) parts[part].next = next;
    }
}

// Adds up, for tokens that share the upper bits of `prefix`, counts or weights by the next four bits.
template <bool MASS> __device__ void fill_bins(Shared &s, const Row &row, u32 prefix, int shift) {
    __syncthreads();
#pragma unroll
    for (int b = 0; b < BINS; b++) s.bins[b][threadIdx.x] = 0.0f;
    for_parts(row, max(row.at_least, prefix), [&](u32 t) {
        const float x = row.tempered(t);
        const u32 key = ordered(x);
        if (key < row.at_least || (shift < 28 && key >> (shift + 4) != prefix >> (shift + 4))) return;
        s.bins[key >> shift & 15][threadIdx.x] += MASS ? row.weight(x) : 1.0f;
    });
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
    if (MASS || enough <= float(FEW)) {
        u32 taken = 0;
        bool reached = false;
        auto greatest = [&](u32 part) { return row.parts[part].best; };
        auto logit = [&](u32 t) { return row.logit(t); };
        descend(s, row.parts, row.count, row.vocab, logit, greatest, [&](const Best &best) {
            const float x = best.value / row.temperature;
            key = ordered(x);
            above += MASS ? row.weight(x) : 1.0f;
            reached = above >= enough;
            return !reached && ++taken < FEW;
        });
        if (reached) return key;
        key = 0;
        above = 0.0f;
    }
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

// In each part, in the chosen part's pieces, in the chosen piece: where the running sum exceeds u times the total.
// `filtered`: some tokens are not kept, so that what is known of the parts does not hold.
__device__ u32 draw(Shared &s, const Row &row, bool filtered, float u) {
    const u32 lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    __syncthreads();
    if (filtered) {
        for (u32 part = warp; part < row.count; part += WARPS) {
            float sum = 0.0f;
            if (row.reaches(part, row.at_least)) {
                for (u32 i = lane; i < PART; i += 32) {
                    const u32 t = part * PART + i;
                    if (t < row.vocab) sum += row.kept(t);
                }
            }
            sum = warp_sum(sum);
            if (lane == 0) row.parts[part].next.value = sum;
        }
    } else {
        for (u32 part = threadIdx.x; part < row.count; part += THREADS) {
            const float most = row.parts[part].best.value / row.temperature;
            row.parts[part].next.value = row.parts[part].weight * row.weight(most);
        }
    }
    __syncthreads();
    if (warp == 0) {
        auto part_sum = [&](u32 part) { return row.parts[part].next.value; };
        float total = 0.0f;
        for (u32 base = 0; base < row.count; base += 32)
            total += __shfl_sync(0xffffffffu, running(base + lane < row.count ? part_sum(base + lane) : 0.0f), 31);
        float sum = 0.0f;
        const u32 part = cross(part_sum, row.count, u * total, sum);
        if (lane == 0) {
            s.sums.ids[0] = part;
            s.totals[0] = u * total;
            s.totals[1] = sum;
        }
    }
    __syncthreads();
    const u32 first = s.sums.ids[0] * PART;
    float piece = 0.0f;
    for (u32 i = lane; i < PIECE; i += 32) {
        const u32 t = first + warp * PIECE + i;
        if (t < row.vocab) piece += row.kept(t);
    }
    piece = warp_sum(piece);
    if (lane == 0) s.sums.sums[warp] = piece;
    __syncthreads();
    u32 token = 0;
    if (warp == 0) {
        float sum = s.totals[1];
        const u32 start = first + PIECE * cross([&](u32 w) { return s.sums.sums[w]; }, WARPS, s.totals[0], sum);
        auto token_weight = [&](u32 i) { return start + i < row.vocab ? row.kept(start + i) : 0.0f; };
        token = start + cross(token_weight, PIECE, s.totals[0], sum);
    }
    return token; // warp 0's counts
}

// The token of a row whose logits are finite.
__device__ u32 choose(Shared &s, Row &row, const SampleRow &how) {
    const Best best = best_of_parts(s, row.count, [&](u32 part) { return row.parts[part].best; });
    if (how.temperature == 0.0f || best.value == -INFINITY_F) return best.id < row.vocab ? best.id : 0;
    row.max_logit = best.value / row.temperature;
    const bool some = how.top_k > 0 && how.top_k < row.vocab;
    if (some) row.at_least = threshold<false>(s, row, float(how.top_k));
    if (how.top_p < 1.0f) {
        float left = 0.0f;
        if (some) {
            for_parts(row, row.at_least, [&](u32 t) {
                const float x = row.tempered(t);
                if (ordered(x) >= row.at_least) left += row.weight(x);
            });
            left = block_sum(s.sums, left);
        } else {
            left = sum_of_parts(s, row.count, [&](u32 part) {
                return row.parts[part].weight * row.weight(row.parts[part].best.value / row.temperature);
            });
        }
        row.at_least = max(row.at_least, threshold<true>(s, row, how.top_p * left));
    }
    const bool filtered = row.at_least > 0 || row.min_p > 0.0f;
    return draw(s, row, filtered, uniform(how.key_lo, how.key_hi, how.position));
}

// ---- the kernel ----

extern "C" __global__ void __launch_bounds__(THREADS, 2) sample(Args a) {
    take_turn();
    __shared__ Shared s;
    const u32 o = blockIdx.x;
    if (o >= *a.rows) return;
    const SampleRow &how = a.sampling[o];
    float *logits = a.logits + size_t(o) * a.stride;
    u32 *out = a.out + size_t(o) * (2 + 2 * MAX_LOGPROBS);
    Part *parts = a.parts + size_t(o) * a.count;

    // The report is of the raw logits.
    const Best most = best_of_parts(s, a.count, [&](u32 part) { return parts[part].raw; });
    const float max_logit = most.value;
    const float mass = sum_of_parts(s, a.count, [&](u32 part) {
        return parts[part].mass * expf(parts[part].raw.value - max_logit);
    });
    const bool finite = fabsf(mass) < INFINITY_F;
    const float log_mass = logf(mass);
    const float nan = __int_as_float(0x7fc00000);

    u32 token = how.target == NONE ? 0 : how.target;
    if (how.target == NONE) {
        const u32 *mask = how.mask == NONE ? nullptr : a.masks + size_t(how.mask) * a.mask_words;
        Row row{logits, mask, parts, a.vocab, a.count, how.temperature, 0.0f, 0, how.min_p};
        if (finite) token = choose(s, row, how);
        // Nobody reads the adjusted logits any more.
        __syncthreads();
        for (u32 i = threadIdx.x; i < how.adjust_len; i += THREADS) {
            const Adjustment &adjust = a.adjustments[how.adjust_start + i];
            logits[adjust.token] = __uint_as_float(adjust.raw);
        }
        __syncthreads();
    }

    for (u32 i = threadIdx.x; i < how.target_len; i += THREADS) {
        const u32 target = how.target_start + i;
        a.target_logprobs[target] = finite ? logits[a.targets[target]] - max_logit - log_mass : nan;
    }
    u32 reported = 0;
    if (how.logprobs > 0 && finite) {
        auto raw = [&](u32 t) { return logits[t]; };
        auto greatest = [&](u32 part) { return parts[part].raw; };
        descend(s, parts, a.count, a.vocab, raw, greatest, [&](const Best &best) {
            if (threadIdx.x == 0) {
                out[2 + reported] = best.id;
                out[2 + MAX_LOGPROBS + reported] = __float_as_uint(best.value - max_logit - log_mass);
            }
            return ++reported < how.logprobs && reported < MAX_LOGPROBS;
        });
    }
    for (u32 i = reported + threadIdx.x; i < MAX_LOGPROBS; i += THREADS) {
        out[2 + i] = 0;
        out[2 + MAX_LOGPROBS + i] = 0;
    }
    if (threadIdx.x == 0) {
        out[0] = token;
        out[1] = __float_as_uint(finite ? logits[token] - max_logit - log_mass : nan);
        if (how.seq_slot != NONE) a.last[how.seq_slot] = token;
    }
}
