// The first half of Sample: what is known of each part of a row of logits. One block for each part; `sample.cu` finishes
// the rows. Logits are read once: a thread keeps its own in registers.
//
// Adjusted logits are written over the raw ones, which wait in the adjustment's spare word until the row is done.
// -DTHREADS: threads of a block; -DPART: tokens of a part.
#include "sample.cuh"

#define OWN (PART / THREADS)

extern "C" __global__ void __launch_bounds__(THREADS, 4) sample_parts(Args a) {
    take_turn();
    __shared__ Sums s;
    const u32 o = blockIdx.x / a.count, first = blockIdx.x % a.count * PART;
    if (o >= *a.rows) return;
    const SampleRow &how = a.sampling[o];
    float *logits = a.logits + size_t(o) * a.stride;
    const u32 mine = first + threadIdx.x;

    float x[OWN];
#pragma unroll
    for (int i = 0; i < OWN; i++) x[i] = mine + i * THREADS < a.vocab ? logits[mine + i * THREADS] : 0.0f;

    auto greatest = [&] {
        Best best{-INFINITY_F, NONE};
#pragma unroll
        for (int i = 0; i < OWN; i++) {
            const Best here{x[i], mine + i * THREADS};
            if (here.id < a.vocab && before(here, best)) best = here;
        }
        return block_best(s, best);
    };
    Part part;
    part.raw = greatest();
    // A logit that is not finite makes the sum no number.
    float mass = 0.0f;
#pragma unroll
    for (int i = 0; i < OWN; i++)
        if (mine + i * THREADS < a.vocab) mass += expf(x[i] - part.raw.value) + x[i] * 0.0f;
    part.mass = block_sum(s, mass);
    part.best = part.raw;
    part.weight = 0.0f;

    if (how.target == NONE) {
        if (how.adjust_len > 0) {
            for (u32 i = threadIdx.x; i < how.adjust_len; i += THREADS) {
                Adjustment &adjust = a.adjustments[how.adjust_start + i];
                if (adjust.token - first >= PART) continue;
                const float raw = logits[adjust.token];
                adjust.raw = __float_as_uint(raw);
                logits[adjust.token] = (raw > 0.0f ? raw / adjust.repetition : raw * adjust.repetition) + adjust.bias;
            }
            __syncthreads();
#pragma unroll
            for (int i = 0; i < OWN; i++)
                if (mine + i * THREADS < a.vocab) x[i] = logits[mine + i * THREADS];
        }
        if (how.mask != NONE) {
            const u32 *mask = a.masks + size_t(how.mask) * a.mask_words;
#pragma unroll
            for (int i = 0; i < OWN; i++) {
                const u32 t = mine + i * THREADS;
                if (t < a.vocab && !(mask[t / 32] >> (t % 32) & 1)) x[i] = -INFINITY_F;
            }
        }
        if (how.adjust_len > 0 || how.mask != NONE) part.best = greatest();
        if (how.temperature != 0.0f && part.best.value > -INFINITY_F) {
            const float most = part.best.value / how.temperature;
            float weight = 0.0f;
#pragma unroll
            for (int i = 0; i < OWN; i++)
                if (mine + i * THREADS < a.vocab) weight += expf(x[i] / how.temperature - most);
            part.weight = block_sum(s, weight);
        }
    }
    part.next = part.best;
    if (threadIdx.x == 0) a.parts[blockIdx.x] = part;
}
