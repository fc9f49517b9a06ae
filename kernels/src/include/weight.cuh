// Weights in their formats: for each, where a row of `cols` columns begins in a weight of `rows` rows, and `widen`, which
// gives N neighbouring columns of a row as f32. N divides the first column and the format's block.
#pragma once
#include "number.cuh"

// Elements one after the other.
template <class T> __device__ __forceinline__ const T *weight_row(const T *weight, size_t row, u32 cols, u32) {
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

__device__ __forceinline__ const q8_0 *weight_row(const q8_0 *weight, size_t row, u32 cols, u32) {
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

// FP8: e4m3 elements, none of them NaN, times a scale. Rows are padded with zeros to 16 bytes, and all scales lie behind
// all rows (planes.rs): one for each row of fp8, one for every 128 columns of fp8_block.
struct fp8 {
    unsigned char bits;
    static __device__ __forceinline__ u32 scales(u32) { return 1; }
    static __device__ __forceinline__ u32 scale_of(u32) { return 0; }
};
struct fp8_block {
    unsigned char bits;
    static __device__ __forceinline__ u32 scales(u32 cols) { return (cols + 127) / 128; }
    static __device__ __forceinline__ u32 scale_of(u32 col) { return col / 128; }
};

__device__ __forceinline__ u32 fp8_pitch(u32 cols) { return (cols + 15) / 16 * 16; }

// The scales of a weight's rows.
template <class T> __device__ __forceinline__ const float *fp8_scales(const T *weight, u32 cols, u32 rows) {
    return reinterpret_cast<const float *>(weight + size_t(rows) * fp8_pitch(cols));
}

template <class T> struct Fp8Row {
    const T *elements;
    const float *scales;
};

template <class T> __device__ __forceinline__ Fp8Row<T> fp8_row(const T *weight, size_t row, u32 cols, u32 rows) {
    return {weight + row * fp8_pitch(cols), fp8_scales(weight, cols, rows) + row * T::scales(cols)};
}
__device__ __forceinline__ Fp8Row<fp8> weight_row(const fp8 *weight, size_t row, u32 cols, u32 rows) {
    return fp8_row(weight, row, cols, rows);
}
__device__ __forceinline__ Fp8Row<fp8_block> weight_row(const fp8_block *weight, size_t row, u32 cols, u32 rows) {
    return fp8_row(weight, row, cols, rows);
}

template <int N, class T> __device__ __forceinline__ Pack<float, N> widen(const Fp8Row<T> &row, u32 col) {
    const float scale = row.scales[T::scale_of(col)];
    const Pack<T, N> elements = load<N>(row.elements + col);
    Pack<float, N> x;
#pragma unroll
    for (int j = 0; j < N; j++) x.at[j] = scale * e4m3_to_float(elements.at[j].bits);
    return x;
}
