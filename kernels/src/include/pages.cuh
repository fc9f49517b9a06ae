// KV pages: elements of a type one after the other, or e4m3, whose columns lie in pairs (planes.rs).
#pragma once
#include "number.cuh"

// The name by which the host knows it.
typedef e4m3 fp8_e4m3;

__device__ __forceinline__ float to_f32(e4m3 x) {
    return (x.bits & 0x7f) == 0x7f ? __int_as_float(0x7fc00000) : e4m3_to_float(x.bits);
}

// The nearest element, of two the even one; what is beyond the greatest becomes it, and NaN stays NaN.
template <> struct Round<e4m3> {
    static __device__ __forceinline__ e4m3 of(float x) {
        const u32 bits = __float_as_uint(x), magnitude = bits & 0x7fffffff;
        u32 nearest;
        if (magnitude > 0x7f800000) nearest = 0x7f;
        else if (magnitude >= 0x43e00000) nearest = 0x7e; // 448
        // Below 2^-6 elements are multiples of 2^-9.
        else if (magnitude < 0x3c800000) nearest = u32(rintf(__int_as_float(magnitude) * 512.0f));
        // Rounded to 3 bits of fraction; a carry goes into the exponent, whose bias is smaller by 120.
        else nearest = (magnitude + 0x7ffff + (magnitude >> 20 & 1) - (120u << 23)) >> 20;
        return e4m3{(unsigned char)(bits >> 24 & 0x80 | nearest)};
    }
};

// Where a column lies in a row of so many. Of 16 columns of e4m3, each of the first 8 lies beside the one 8 after it: a
// fragment of a product is then one half of each pair of bytes.
template <class T> struct PageColumn {
    static __device__ __forceinline__ u32 of(u32 col, u32) { return col; }
};
template <> struct PageColumn<e4m3> {
    static __device__ __forceinline__ u32 of(u32 col, u32 cols) {
        const u32 group = col / 16 * 16, in = col % 16;
        return group + 16 > cols ? col : group + in % 8 * 2 + in / 8;
    }
};

// Stores neighbouring columns in a row of pages, rounded.
template <int N, class T, class U>
__device__ __forceinline__ void store_columns(T *row, u32 col, u32, const Pack<U, N> &x) {
    store<N>(row + col, rounded<T>(x));
}
template <int N, class U>
__device__ __forceinline__ void store_columns(e4m3 *row, u32 col, u32 cols, const Pack<U, N> &x) {
#pragma unroll
    for (int j = 0; j < N; j++) row[PageColumn<e4m3>::of(col + j, cols)] = Round<e4m3>::of(to_f32(x.at[j]));
}

// Two pairs of e4m3 elements in the lower and in the upper bytes of each half of x, as pairs of T. Their bits, moved to
// where those of T lie, are too small by the difference of the biases, for which a product makes up: it is exact. Another
// one is finite for all numbers and infinite for NaN, which would else be 480; times zero it makes it NaN again.
template <class T> __device__ __forceinline__ void widen_pairs(u32 x, u32 &low, u32 &high);

__device__ __forceinline__ u32 widened_f16(u32 x) {
    const u32 y = fma_f16x2(x, 0x5c005c00, 0x80008000); // 2^8
    return fma_f16x2(fma_f16x2(x, 0x78487848, 0x80008000), 0, y); // 35072: 448 becomes 61376, 480 more than 65520
}
template <> __device__ __forceinline__ void widen_pairs<f16>(u32 x, u32 &low, u32 &high) {
    low = widened_f16(x << 8 & 0x80008000 | x << 7 & 0x3f803f80);
    high = widened_f16(x & 0x80008000 | x >> 1 & 0x3f803f80);
}

__device__ __forceinline__ u32 widened_bf16(u32 x) {
    const u32 y = fma_bf16x2(x, 0x7b807b80, 0x80008000); // 2^120
    return fma_bf16x2(fma_bf16x2(y, 0x7b0c7b0c, 0x80008000), 0, y); // 1.09375 * 2^119: 480 becomes 2^128 and more
}
template <> __device__ __forceinline__ void widen_pairs<bf16>(u32 x, u32 &low, u32 &high) {
    low = widened_bf16(x << 8 & 0x80008000 | x << 4 & 0x07f007f0);
    high = widened_bf16(x & 0x80008000 | x >> 4 & 0x07f007f0);
}
