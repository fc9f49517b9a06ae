// Merges the parts of rows whose context spans several, in ascending order; see attention.cuh.
// One warp for each row and KV head. The states of AHEAD parts are asked for together: one after the other, each would be
// waited for.
// -DTQ: type of out; -DDIM: head_dim.
#include "attention.cuh"

#define AHEAD 8
#define VALUES ((DIM + 31) / 32) // of a lane

// A tile whose parts lie in neighbouring slots.
struct Merge {
    u32 seq;
    u32 row;
    u32 slot;
    u32 parts;
};

struct MergeArgs {
    const u32 *count;
    const Merge *merges;
    const float *states; // [slots, kv_heads, state_rows, DIM + 2]
    const u32 *query_start;
    TQ *out;
    u32 kv_heads;
    u32 group;
    u32 state_rows;
    u32 out_stride;
    float scale;
    u32 pad;
};

extern "C" __global__ void __launch_bounds__(512) attention_merge(MergeArgs a) {
    take_turn();
    const u32 lane = threadIdx.x % 32, in_tile = threadIdx.x / 32, kv_head = blockIdx.x;
    const u32 count = *a.count;
    for (u32 index = blockIdx.y; index < count; index += gridDim.y) {
        const Merge merge = a.merges[index];
        const u32 begin = a.query_start[merge.seq], tokens = a.query_start[merge.seq + 1] - begin;
        const u32 row = merge.row + in_tile;
        if (row >= tokens * a.group) continue;
        float max_score = -INFINITY_F, sum = 0.0f, acc[VALUES];
#pragma unroll
        for (int i = 0; i < VALUES; i++) acc[i] = 0.0f;
        for (u32 first = 0; first < merge.parts; first += AHEAD) {
            float part_max[AHEAD], part_sum[AHEAD], values[AHEAD][VALUES];
#pragma unroll
            for (u32 part = 0; part < AHEAD; part++) {
                if (first + part >= merge.parts) continue;
                const u32 slot = merge.slot + first + part;
                const float *state = a.states + ((size_t(slot) * a.kv_heads + kv_head) * a.state_rows + in_tile) * (DIM + 2);
                part_max[part] = state[DIM];
                part_sum[part] = state[DIM + 1];
#pragma unroll
                for (int i = 0; i < VALUES; i++)
                    if (i * 32 + lane < DIM) values[part][i] = state[i * 32 + lane];
            }
#pragma unroll
            for (u32 part = 0; part < AHEAD; part++) {
                if (first + part >= merge.parts) continue;
                const Rescale u = rescale(max_score, part_max[part], a.scale);
                max_score = u.max_score;
                sum = blend(u, sum, part_sum[part]);
#pragma unroll
                for (int i = 0; i < VALUES; i++)
                    if (i * 32 + lane < DIM) acc[i] = blend(u, acc[i], values[part][i]);
            }
        }
        const float of_sum = inverse(sum);
        TQ *out = a.out + size_t(begin + row / a.group) * a.out_stride + (kv_head * a.group + row % a.group) * DIM;
#pragma unroll
        for (int i = 0; i < VALUES; i++)
            if (i * 32 + lane < DIM) out[i * 32 + lane] = Round<TQ>::of(share(acc[i], of_sum));
    }
}
