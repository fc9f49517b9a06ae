// Weights in their formats. A row is one run of bytes, its scales inside. For each format: where a row begins, and
// `widen`, which gives N neighbouring columns of a row as f32. N divides the first column and the format's block.
#pragma once
#include "number.cuh"

// Elements one after the other.
template <class T> __device__ __forceinline__ const T *weight_row(const T *weight, size_t row, u32 cols) {
    return weight + row * cols;
}

template <int N, class T> __device__ __forceinline__ Pack<float, N> widen(const T *row, u32 col) {
    return rounded<float>(load<N>(row + col));
}

// Q8_0 of GGUF: a block of 32 columns, each q * scale.
struct q8_0 {
    u16 scale; // f16
    signed char q[32];
};

__device__ __forceinline__ const q8_0 *weight_row(const q8_0 *weight, size_t row, u32 cols) {
    return weight + row * (cols / 32);
}

template <int N> __device__ __forceinline__ Pack<float, N> widen(const q8_0 *row, u32 col) {
    const q8_0 &block = row[col / 32];
    const float scale = f16_to_float(block.scale);
    Pack<float, N> x;
#pragma unroll
    for (int j = 0; j < N; j++) x.at[j] = scale * float(block.q[col % 32 + j]);
    return x;
}
