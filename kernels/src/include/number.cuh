// Element types and packed access. Sums are f32 everywhere; storage is f32, f16 or bf16.
#pragma once
#include "ptx.cuh"

typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long long u64;
typedef float f32;

struct bf16 {
    u16 bits;
};

struct f16 {
    u16 bits;
};

struct e4m3 {
    unsigned char bits;
};

// Two neighbours.
struct e4m3x2 {
    u16 bits;
};

#define INFINITY_F __int_as_float(0x7f800000)

__device__ __forceinline__ float to_f32(float x) { return x; }
__device__ __forceinline__ float to_f32(bf16 x) { return bf16_to_float(x.bits); }
__device__ __forceinline__ float to_f32(f16 x) { return f16_to_float(x.bits); }

// An e4m3 element that is no NaN. Its exponent's bias is smaller than that of f32 by 120.
__device__ __forceinline__ float e4m3_to_float(u32 bits) {
    return __int_as_float((bits & 0x80) << 24 | (bits & 0x7f) << 20) * __int_as_float(0x7b800000);
}

// One rounding, to nearest even.
template <class T> struct Round;
template <> struct Round<float> {
    static __device__ __forceinline__ float of(float x) { return x; }
};
template <> struct Round<bf16> {
    static __device__ __forceinline__ bf16 of(float x) { return bf16{float_to_bf16(x)}; }
    static __device__ __forceinline__ u32 pair(float lo, float hi) { return floats_to_bf16x2(lo, hi); }
};
template <> struct Round<f16> {
    static __device__ __forceinline__ f16 of(float x) { return f16{float_to_f16(x)}; }
    static __device__ __forceinline__ u32 pair(float lo, float hi) { return floats_to_f16x2(lo, hi); }
};

// N neighbouring elements, moved together: 16 bytes at a time where they are that long.
template <class T, int N> struct alignas(sizeof(T) * N < 16 ? sizeof(T) * N : 16) Pack {
    T at[N];
};

template <int N, class T> __device__ __forceinline__ Pack<T, N> load(const T *from) {
    return *reinterpret_cast<const Pack<T, N> *>(from);
}

template <int N, class T> __device__ __forceinline__ void store(T *to, const Pack<T, N> &pack) {
    *reinterpret_cast<Pack<T, N> *>(to) = pack;
}

// A pack rounded to another type.
template <class T, class U, int N> __device__ __forceinline__ Pack<T, N> rounded(const Pack<U, N> &x) {
    Pack<T, N> y;
#pragma unroll
    for (int j = 0; j < N; j++) y.at[j] = Round<T>::of(to_f32(x.at[j]));
    return y;
}

// Copies `cols` elements with all threads of the block, N at a time, rounded to the other type.
template <int N, class T, class U> __device__ __forceinline__ void copy_row(T *to, const U *from, u32 cols) {
    for (u32 i = threadIdx.x * N; i < cols; i += blockDim.x * N)
        store<N>(to + i, rounded<T>(load<N>(from + i)));
}

// The sum over a warp, the same in every lane: a butterfly, so its order depends on the lanes only.
__device__ __forceinline__ float warp_sum(float x) {
#pragma unroll
    for (int lane = 16; lane > 0; lane >>= 1) x += __shfl_xor_sync(0xffffffffu, x, lane);
    return x;
}

__device__ __forceinline__ float warp_max(float x) {
#pragma unroll
    for (int lane = 16; lane > 0; lane >>= 1) x = fmaxf(x, __shfl_xor_sync(0xffffffffu, x, lane));
    return x;
}

// acc += a b, 16 x 8 of f32 += 16 x 16 times 16 x 8, in the fragment layouts of mma.sync; of e4m3 each is a pair.
template <class T> struct Mma;
template <> struct Mma<bf16> {
    static __device__ __forceinline__ void m16n8k16(float (&acc)[4], const u32 (&a)[4], const u32 *b) {
        const u32 pair[2] = {b[0], b[1]};
        mma_m16n8k16_bf16(acc, a, pair);
    }
};
template <> struct Mma<f16> {
    static __device__ __forceinline__ void m16n8k16(float (&acc)[4], const u32 (&a)[4], const u32 *b) {
        const u32 pair[2] = {b[0], b[1]};
        mma_m16n8k16_f16(acc, a, pair);
    }
};
template <> struct Mma<e4m3x2> {
    static __device__ __forceinline__ void m16n8k16(float (&acc)[4], const u32 (&a)[4], const u32 *b) {
        const u32 pair[2] = {b[0], b[1]};
        mma_m16n8k32_e4m3(acc, a, pair);
    }
};
