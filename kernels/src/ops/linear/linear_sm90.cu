// out = x weight^T + bias, out += the same, or act(gate) * up of it, on the tensor cores of sm_90a (wgmma).
//
// The operands are swapped: features are the 64 rows of a wgmma, tokens its columns, of which there are 8 to 256. So one
// instruction serves every row count, and K runs in steps of 32 bytes, ascending, into one accumulator for each element: the
// shape of a tile never changes a bit.
//
// A block stays on its multiprocessor and makes one tile of FEATURES x TOKENS after the other. A producer fills STAGES
// slots of shared memory by bulk copies, as far ahead as there is room; each consumer warpgroup multiplies 64 features.
// Two mbarriers for each slot say that it is full and that it is empty again.
//
// In FP8 both operands are e4m3, and the sums are multiplied by the scales of their token and of their feature. Where a
// feature has a scale for every 128 columns, those of a slot, the products of a slot are summed by themselves, and the sums
// that they are added to are a second set of accumulators.
//
// -DTX: type of x and weight (bf16, f16 or e4m3); -DFP8: 1 if that is e4m3 with scales of features, 2 with scales of blocks; -DTB, -DTO: types of bias and out; -DBIAS: 1 with a bias; -DADD: 1 to add
// what out holds, the residual, last; -DGATE: 1 for SiLU, 2 for the tanh form of GELU: of every 16 rows of the weight
// the first 8 are gates, the others the up rows that they multiply, and out has half as many columns; -DVEC: 1 if 16
// bytes of out can be moved at once; -DWGS: consumer warpgroups; -DTOKENS; -DSTAGES.
#include "number.cuh"
#include "ptx_sm90.cuh"

WGMMAS(bf16, "bf16", "k16", ", 0, 0")
WGMMAS(f16, "f16", "k16", ", 0, 0")
WGMMAS(e4m3, "e4m3", "k32", "")

#define FEATURES (64 * WGS)
#define DEEP (FP8 ? 128 : 64)             // columns of a slot: 128 bytes
#define WEIGHTS (FEATURES * 128)          // bytes
#define SLOT (WEIGHTS + TOKENS * 128)
#define GROUP 8                           // token tiles that share their weights in L2
#define OUTS (GATE ? 32 : 64)             // columns of out that a warpgroup makes
#define PRODUCER_REGISTERS (WGS == 3 ? 32 : 40)
#define CONSUMER_REGISTERS (WGS == 3 ? 160 : 232)

struct Args {
    TensorMap weight;
    TensorMap x;
    const u32 *rows;
    const TB *bias;
    TO *out;
    const float *weight_scales;
    const float *x_scales;
    u32 features;
    u32 k;
    u32 out_stride;
    u32 pad[3];
};

// One tile of the walk: groups of GROUP token tiles go over all feature tiles, the token tile first.
struct Tile {
    u32 feature, token;
    __device__ __forceinline__ Tile(u32 i, u32 feature_tiles, u32 token_tiles) {
        const u32 group = i / (GROUP * feature_tiles), inside = i % (GROUP * feature_tiles);
        const u32 width = min(u32(GROUP), token_tiles - group * GROUP);
        feature = inside / width * FEATURES;
        token = (group * GROUP + inside % width) * TOKENS;
    }
};

// The slots in turn, with the parity of the phase that a visit waits for.
struct Ring {
    u32 slot, parity;
    __device__ __forceinline__ void next() {
        if (++slot == STAGES) slot = 0, parity ^= 1;
    }
};

// x sigmoid(s), with s = x for SiLU; the tanh form of GELU, 0.5 x (1 + tanh(u)), is that with s = 2 u. Nothing else runs
// while a tile ends, so division and exponential are the fast ones: their error of some units in the last place is far
// below the rounding to 16 bits.
__device__ __forceinline__ float activate(float x) {
#if GATE == 2
    // u = sqrt(2/pi) (x + 0.044715 x^3)
    const float s = 2.0f * 0.7978845608028654f * fmaf(0.044715f * x, x * x, x);
#else
    const float s = x;
#endif
    return __fdividef(x, 1.0f + __expf(-s));
}

// What becomes of a warpgroup's accumulators. They hold 64 features of TOKENS tokens, features first; they go through
// shared memory, CHUNK tokens at a time, so that rows of out are moved whole.
#if WIDE_OUT
#define CHUNK (TOKENS < 32 ? TOKENS : 32)
#define PITCH 68                          // floats of a row: keeps the stores free of bank conflicts
#define ROOM (CHUNK * PITCH * 4)          // bytes
#define MOVED 4                           // elements that a thread moves at once
#else
#define CHUNK (TOKENS < 64 ? TOKENS : TOKENS % 64 == 0 ? 64 : TOKENS % 48 == 0 ? 48 : 32)
#define ROOM (CHUNK * OUTS * 2)
#define MOVED 8
#endif
#define PIECES (CHUNK * OUTS / MOVED)     // of a chunk
#define ROUNDS ((PIECES + 127) / 128)

struct Epilogue {
    const Args &a;
    unsigned char *room;
    u32 rows, cols, warpgroup, thread;    // of out; of the block; of the warpgroup

    // The piece that this thread moves in a round: where it lies in the room and in out.
    struct Piece {
        u32 token, col;
        unsigned char *at;
        bool any;
    };

    __device__ __forceinline__ Piece piece(const Tile &tile, u32 chunk, u32 round) const {
        const u32 i = round * 128 + thread, row = i / (OUTS / MOVED), place = i % (OUTS / MOVED);
        Piece p;
        p.token = tile.token + chunk * CHUNK + row;
        p.col = tile.feature / (64 / OUTS) + warpgroup * OUTS + place * MOVED;
        p.any = i < PIECES && p.token < rows && p.col < cols;
#if WIDE_OUT
        p.at = room + row * (PITCH * 4) + place * 16;
#else
        p.at = room + address(row, place);
#endif
        return p;
    }

#if !WIDE_OUT
    // Pieces are permuted so that neither stmatrix nor the moves meet a bank conflict.
    static __device__ __forceinline__ u32 address(u32 row, u32 place) {
        return row * (OUTS * 2) + (GATE ? place ^ (row / 2 & 3) : place ^ (row & 7)) * 16;
    }
#endif

    __device__ __forceinline__ TO *out(const Piece &p) const { return a.out + size_t(p.token) * a.out_stride + p.col; }

    // What out holds, zero outside of it.
    __device__ __forceinline__ Pack<TO, MOVED> held(const Piece &p) const {
        Pack<TO, MOVED> x;
#if VEC
        if (p.any) return load<MOVED>(out(p));
#endif
#pragma unroll
        for (u32 j = 0; j < MOVED; j++) {
            x.at[j] = Round<TO>::of(0.0f);
#if !VEC
            if (p.any && p.col + j < cols) x.at[j] = out(p)[j];
#endif
        }
        return x;
    }

    __device__ __forceinline__ void put(const Piece &p, const Pack<TO, MOVED> &x) const {
        if (!p.any) return;
#if VEC
        store<MOVED>(out(p), x);
#else
#pragma unroll
        for (u32 j = 0; j < MOVED; j++)
            if (p.col + j < cols) out(p)[j] = x.at[j];
#endif
    }

    // The residual of a chunk on its way.
    struct Residual {
        Pack<TO, MOVED> x[ROUNDS];
    };

    __device__ __forceinline__ void fetch(Residual &residual, const Tile &tile, u32 chunk) const {
#if ADD
#pragma unroll
        for (u32 round = 0; round < ROUNDS; round++) residual.x[round] = held(piece(tile, chunk, round));
#endif
    }

    // All threads of the warpgroup are here.
    __device__ __forceinline__ void meet() const { named_barrier(1 + warpgroup, 128); }

    // The biases of a thread's two features.
    __device__ __forceinline__ float bias(u32 col) const {
#if BIAS
        return col < a.features ? to_f32(a.bias[col]) : 0.0f;
#else
        return 0.0f;
#endif
    }

    // What a lane's accumulators are multiplied by in FP8: the scales of its two features.
    struct Scales {
        float feature0, feature1;
    };

    __device__ __forceinline__ Scales scales(u32 feature) const {
#if FP8 == 1
        return {feature < a.features ? a.weight_scales[feature] : 0.0f, feature + 8 < a.features ? a.weight_scales[feature + 8] : 0.0f};
#else
        return {1.0f, 1.0f};
#endif
    }

    // The sums of a lane's two features of a token and the next, from its accumulators.
    __device__ __forceinline__ void sums(float (&v)[4], const float *d, const Scales &scales, u32 token) const {
#pragma unroll
        for (u32 e = 0; e < 4; e++) v[e] = d[e];
#if FP8
        const float x0 = token < rows ? a.x_scales[token] : 0.0f, x1 = token + 1 < rows ? a.x_scales[token + 1] : 0.0f;
        v[0] *= x0 * scales.feature0, v[1] *= x1 * scales.feature0;
        v[2] *= x0 * scales.feature1, v[3] *= x1 * scales.feature1;
#endif
    }

    // Writes the tile; `residual` holds that of its first chunk.
    __device__ __forceinline__ void run(const Tile &tile, const float (&d)[TOKENS / 2], Residual &residual) const {
        const u32 lane = thread % 32, warp = thread / 32;
        const u32 first = tile.feature + warpgroup * 64 + warp * 16 + lane / 4;
#if GATE
        const u32 gate = first / 16 * 8 + lane / 4;
        const bool inside = gate < cols;
        const float bias0 = inside ? bias(gate) : 0.0f, bias1 = inside ? bias(cols + gate) : 0.0f;
#else
        const float bias0 = bias(first), bias1 = bias(first + 8);
#endif
        const Scales scales = this->scales(first);
#pragma unroll
        for (u32 chunk = 0; chunk < TOKENS / CHUNK; chunk++) {
            meet(); // The room is free.
#if ADD && !WIDE_OUT
#pragma unroll
            for (u32 round = 0; round < ROUNDS; round++) {
                const Piece p = piece(tile, chunk, round);
                if (round * 128 + thread < PIECES) store<MOVED>(reinterpret_cast<TO *>(p.at), residual.x[round]);
            }
            meet();
            if (chunk + 1 < TOKENS / CHUNK) fetch(residual, tile, chunk + 1);
#endif
            turn(d, chunk, lane, warp, bias0, bias1, scales, tile.token + chunk * CHUNK + lane % 4 * 2);
            meet();
#pragma unroll
            for (u32 round = 0; round < ROUNDS; round++) {
                const Piece p = piece(tile, chunk, round);
                if (!p.any) continue;
#if WIDE_OUT
                Pack<TO, MOVED> x = load<MOVED>(reinterpret_cast<const TO *>(p.at));
#if ADD
#pragma unroll
                for (u32 j = 0; j < MOVED; j++) x.at[j] += residual.x[round].at[j];
#endif
                put(p, x);
#else
                put(p, load<MOVED>(reinterpret_cast<const TO *>(p.at)));
#endif
            }
#if ADD && WIDE_OUT
            if (chunk + 1 < TOKENS / CHUNK) fetch(residual, tile, chunk + 1);
#endif
        }
    }

    // Brings the accumulators of a chunk into the room, tokens first.
    __device__ __forceinline__ void
    turn(const float (&d)[TOKENS / 2], u32 chunk, u32 lane, u32 warp, float bias0, float bias1, const Scales &scales, u32 token) const {
#if WIDE_OUT
        float *to = reinterpret_cast<float *>(room) + (lane % 4 * 2) * PITCH + warp * 16 + lane / 4;
#pragma unroll
        for (u32 j = 0; j < CHUNK / 8; j++) {
            float v[4];
            sums(v, d + (chunk * (CHUNK / 8) + j) * 4, scales, token + j * 8);
            to[j * 8 * PITCH] = v[0] + bias0;
            to[(j * 8 + 1) * PITCH] = v[1] + bias0;
            to[j * 8 * PITCH + 8] = v[2] + bias1;
            to[(j * 8 + 1) * PITCH + 8] = v[3] + bias1;
        }
#elif GATE
#pragma unroll
        for (u32 j = 0; j < CHUNK / 8; j++) {
            float v[4];
            sums(v, d + (chunk * (CHUNK / 8) + j) * 4, scales, token + j * 8);
            const float y0 = activate(v[0] + bias0) * (v[2] + bias1), y1 = activate(v[1] + bias0) * (v[3] + bias1);
            stmatrix_trans(shared_address(room) + address(j * 8 + lane % 8, warp), Round<TO>::pair(y0, y1));
        }
#else
#pragma unroll
        for (u32 j = 0; j < CHUNK / 8; j++) {
            float v[4];
            sums(v, d + (chunk * (CHUNK / 8) + j) * 4, scales, token + j * 8);
            float y[4] = {v[0] + bias0, v[1] + bias0, v[2] + bias1, v[3] + bias1};
            // Lane l gives the address of token l % 8, of the features from 0 on or from 8 on.
            const u32 at = address(j * 8 + lane % 8, warp * 2 + lane / 8 % 2);
#if ADD
            u32 residual[2];
            ldmatrix_x2_trans(residual, room + at);
#pragma unroll
            for (u32 e = 0; e < 4; e++) y[e] += to_f32(TO{u16(residual[e / 2] >> e % 2 * 16)});
#endif
            const u32 pairs[2] = {Round<TO>::pair(y[0], y[1]), Round<TO>::pair(y[2], y[3])};
            stmatrix_x2_trans(shared_address(room) + at, pairs);
        }
#endif
    }
};

// Fills the slots, tile after tile. Weights are constant, so those of the first slots are on their way before what makes x
// is done.
__device__ __forceinline__ void produce(const Args &a, u32 slots, u32 full, u32 empty, u32 feature_tiles, u32 token_tiles) {
    const u32 steps = (a.k + DEEP - 1) / DEEP;
    prefetch_map(a.x);
    u32 ahead = 0; // Slots with weights and without x.
    if (blockIdx.x < feature_tiles * token_tiles) {
        const Tile tile(blockIdx.x, feature_tiles, token_tiles);
        for (; ahead < min(steps, u32(STAGES)); ahead++) {
            mbarrier_arrive_expect(full + 8 * ahead, SLOT);
            bulk_copy(slots + ahead * SLOT, a.weight, full + 8 * ahead, ahead * DEEP, tile.feature);
        }
    }
    wait_for_kernels_before();
    Ring ring = {0, 1};
    for (u32 i = blockIdx.x; i < feature_tiles * token_tiles; i += gridDim.x) {
        const Tile tile(i, feature_tiles, token_tiles);
        for (u32 step = 0; step < steps; step++) {
            const u32 slot = slots + ring.slot * SLOT, filled = full + 8 * ring.slot;
            if (ahead > 0) {
                ahead--;
            } else {
                mbarrier_wait(empty + 8 * ring.slot, ring.parity);
                mbarrier_arrive_expect(filled, SLOT);
                bulk_copy(slot, a.weight, filled, step * DEEP, tile.feature);
            }
            bulk_copy(slot + WEIGHTS, a.x, filled, step * DEEP, tile.token);
            ring.next();
        }
    }
}

extern "C" __global__ void __launch_bounds__(128 * (WGS + 1), 1) linear_sm90(const __grid_constant__ Args a) {
    extern __shared__ __align__(1024) unsigned char smem[];
    let_next_kernel_start();
    // Slots begin at multiples of 1024, after them the rooms of the epilogue, then the mbarriers.
    const u32 at = shared_address(smem), slots = (at + 1023) / 1024 * 1024;
    unsigned char *const rooms = smem + (slots - at) + STAGES * SLOT;
    const u32 full = slots + STAGES * SLOT + WGS * ROOM, empty = full + 8 * STAGES;
    if (threadIdx.x == 0) {
        for (u32 s = 0; s < STAGES; s++) {
            mbarrier_init(full + 8 * s, 1);
            mbarrier_init(empty + 8 * s, 4 * WGS); // Each consumer warp.
        }
        fence_mbarrier_init();
        fence_proxy_async();
    }
    __syncthreads();
    // Counts are written before the first kernel of a step starts.
    const u32 rows = *a.rows;
    const u32 feature_tiles = (a.features + FEATURES - 1) / FEATURES, token_tiles = (rows + TOKENS - 1) / TOKENS;
    const u32 warpgroup = threadIdx.x / 128;
    if (warpgroup == WGS) {
        give_registers<PRODUCER_REGISTERS>();
        if (threadIdx.x == WGS * 128) produce(a, slots, full, empty, feature_tiles, token_tiles);
        return;
    }
    take_registers<CONSUMER_REGISTERS>();
    wait_for_kernels_before();
    const u32 steps = (a.k + DEEP - 1) / DEEP, lane = threadIdx.x % 32;
    const Epilogue epilogue = {a, rooms + warpgroup * ROOM, rows, a.features / (GATE ? 2 : 1), warpgroup, threadIdx.x % 128};
    Ring ring = {0, 0};
    float d[TOKENS / 2];
#if FP8 == 2
    float scaled[TOKENS / 2];
#endif
    for (u32 i = blockIdx.x; i < feature_tiles * token_tiles; i += gridDim.x) {
        const Tile tile(i, feature_tiles, token_tiles);
        Epilogue::Residual residual;
        epilogue.fetch(residual, tile, 0);
#if FP8 == 2
#pragma unroll
        for (u32 e = 0; e < TOKENS / 2; e++) scaled[e] = 0.0f;
        const u32 first = tile.feature + warpgroup * 64 + threadIdx.x % 128 / 32 * 16 + lane / 4;
        for (u32 step = 0; step < steps; step++) {
            const u32 slot = slots + ring.slot * SLOT;
            const float scale0 = first < a.features ? a.weight_scales[size_t(first) * steps + step] : 0.0f;
            const float scale1 = first + 8 < a.features ? a.weight_scales[size_t(first + 8) * steps + step] : 0.0f;
            mbarrier_wait(full + 8 * ring.slot, ring.parity);
            const u64 weight = wgmma_operand(slot + warpgroup * 64 * 128), x = wgmma_operand(slot + WEIGHTS);
            wgmma_fence();
#pragma unroll
            for (u32 q = 0; q < 4; q++) Wgmma<TX, TOKENS>::multiply(d, weight + 2 * q, x + 2 * q, q > 0);
            wgmma_commit();
            // While this warpgroup scales, another one multiplies.
            wgmma_wait<0>();
            wgmma_results(d);
            if (lane == 0) mbarrier_arrive(empty + 8 * ring.slot);
            ring.next();
#pragma unroll
            for (u32 e = 0; e < TOKENS / 2; e++) scaled[e] = fmaf(d[e], e / 2 % 2 ? scale1 : scale0, scaled[e]);
        }
        epilogue.run(tile, scaled, residual);
#else
        u32 before = 0;
        for (u32 step = 0; step < steps; step++) {
            mbarrier_wait(full + 8 * ring.slot, ring.parity);
            const u32 slot = slots + ring.slot * SLOT;
            const u64 weight = wgmma_operand(slot + warpgroup * 64 * 128), x = wgmma_operand(slot + WEIGHTS);
            wgmma_fence();
#pragma unroll
            for (u32 q = 0; q < 4; q++) Wgmma<TX, TOKENS>::multiply(d, weight + 2 * q, x + 2 * q, step + q > 0);
            wgmma_commit();
            // The products of the step before are done, and their slot is read.
            wgmma_wait<1>();
            if (step > 0 && lane == 0) mbarrier_arrive(empty + 8 * before);
            before = ring.slot;
            ring.next();
        }
        wgmma_wait<0>();
        wgmma_results(d);
        if (lane == 0) mbarrier_arrive(empty + 8 * before);
        epilogue.run(tile, d, residual);
#endif
    }
}
