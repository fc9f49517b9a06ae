// Every line of inline PTX of the project, each behind one function, each with a plain C++ twin of the same lane
// layout, so that a kernel's logic also runs where there is no GPU. Fragment layouts: PTX ISA, "Warp-level matrix
// instructions" (mma.m16n8k16, ldmatrix) and "Data movement: cp.async". Needs no CUDA header.
//
// 16-bit floats travel as their bits: bf16 and f16 in `unsigned short`, pairs in `unsigned` with the lower index in
// the lower half.
#pragma once

#ifndef GRISTMILL_STANDIN
#define PTX_FN static __device__ __forceinline__

// ---- conversions, round to nearest even ----
PTX_FN float bf16_to_float(unsigned short x) { return __uint_as_float((unsigned)x << 16); }
PTX_FN unsigned short float_to_bf16(float x) {
    unsigned short r;
    asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(r) : "f"(x));
    return r;
}
PTX_FN unsigned floats_to_bf16x2(float lo, float hi) {
    unsigned r;
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(r) : "f"(hi), "f"(lo));
    return r;
}
PTX_FN float f16_to_float(unsigned short x) {
    float r;
    asm("cvt.f32.f16 %0, %1;" : "=f"(r) : "h"(x));
    return r;
}
PTX_FN unsigned short float_to_f16(float x) {
    unsigned short r;
    asm("cvt.rn.f16.f32 %0, %1;" : "=h"(r) : "f"(x));
    return r;
}
PTX_FN unsigned floats_to_f16x2(float lo, float hi) {
    unsigned r;
    asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(r) : "f"(hi), "f"(lo));
    return r;
}

// ---- a * b + c of two pairs, one rounding each; subnormal numbers are kept ----
PTX_FN unsigned fma_f16x2(unsigned a, unsigned b, unsigned c) {
    unsigned r;
    asm("fma.rn.f16x2 %0, %1, %2, %3;" : "=r"(r) : "r"(a), "r"(b), "r"(c));
    return r;
}
PTX_FN unsigned fma_bf16x2(unsigned a, unsigned b, unsigned c) {
    unsigned r;
    asm("fma.rn.bf16x2 %0, %1, %2, %3;" : "=r"(r) : "r"(a), "r"(b), "r"(c));
    return r;
}

// ---- 2^x within 2 units in the last place; what is smaller than any normal number becomes zero ----
PTX_FN float exp2_ftz(float x) {
    float r;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(r) : "f"(x));
    return r;
}

// ---- cp.async: 16 bytes from global to shared memory; both addresses are multiples of 16 ----
PTX_FN unsigned shared_address(const void* p) { return (unsigned)__cvta_generic_to_shared(p); }

PTX_FN void cp_async_16(void* shared, const void* global) {
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(shared_address(shared)), "l"(global) : "memory");
}
// Reads the 16 bytes where `valid`, else writes zeros and reads nothing (the address may then be anything mapped).
PTX_FN void cp_async_16_or_zero(void* shared, const void* global, bool valid) {
    unsigned bytes = valid ? 16 : 0;
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(shared_address(shared)), "l"(global), "r"(bytes) : "memory");
}
PTX_FN void cp_async_commit() { asm volatile("cp.async.commit_group;" ::: "memory"); }
// Waits until at most `left` of this thread's groups are under way; other threads' copies need a barrier as well.
template <int left> PTX_FN void cp_async_wait() { asm volatile("cp.async.wait_group %0;" ::"n"(left) : "memory"); }

// ---- ldmatrix: 8x8 matrices of 16-bit elements; lane 8 i + r gives the address of row r of matrix i ----
// Lane l receives of matrix i the elements (l / 4, 2 (l % 4)) and (l / 4, 2 (l % 4) + 1) in r[i].
PTX_FN void ldmatrix_x4(unsigned (&r)[4], const void* row) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3]) : "r"(shared_address(row)) : "memory");
}
// Two matrices; the addresses are those of lanes 0 to 15, the others' must be valid but are not read.
PTX_FN void ldmatrix_x2(unsigned (&r)[2], const void* row) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x2.shared.b16 {%0, %1}, [%2];"
                 : "=r"(r[0]), "=r"(r[1]) : "r"(shared_address(row)) : "memory");
}
// Transposed: lane l receives the elements (2 (l % 4), l / 4) and (2 (l % 4) + 1, l / 4).
PTX_FN void ldmatrix_x4_trans(unsigned (&r)[4], const void* row) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3]) : "r"(shared_address(row)) : "memory");
}
PTX_FN void ldmatrix_x2_trans(unsigned (&r)[2], const void* row) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x2.trans.shared.b16 {%0, %1}, [%2];"
                 : "=r"(r[0]), "=r"(r[1]) : "r"(shared_address(row)) : "memory");
}

// ---- mma: c[16 x 8] += a[16 x 16] b[16 x 8], f32 sums; with g = lane / 4 and t = lane % 4 a lane holds ----
// a[0] = A(g, 2t..2t+1)  a[1] = A(g+8, 2t..)  a[2] = A(g, 2t+8..)  a[3] = A(g+8, 2t+8..)
// b[0] = B(2t..2t+1, g)  b[1] = B(2t+8..2t+9, g)
// c[0] = C(g, 2t)  c[1] = C(g, 2t+1)  c[2] = C(g+8, 2t)  c[3] = C(g+8, 2t+1)
PTX_FN void mma_m16n8k16_bf16(float (&c)[4], const unsigned (&a)[4], const unsigned (&b)[2]) {
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
                 : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}
PTX_FN void mma_m16n8k16_f16(float (&c)[4], const unsigned (&a)[4], const unsigned (&b)[2]) {
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
                 : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}
// Of e4m3 elements each of the two-byte ones above is a pair: a[16 x 32], b[32 x 8]. Since sm_89.
PTX_FN void mma_m16n8k32_e4m3(float (&c)[4], const unsigned (&a)[4], const unsigned (&b)[2]) {
#if __CUDA_ARCH__ >= 890
    asm volatile("mma.sync.aligned.m16n8k32.row.col.f32.e4m3.e4m3.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
                 : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
#endif
}

// ---- launches that overlap: griddepcontrol, since sm_90 ----
// The next kernel may be brought onto the card from here on; it waits before it reads what this one writes.
PTX_FN void let_next_kernel_start() {
#if __CUDA_ARCH__ >= 900
    asm volatile("griddepcontrol.launch_dependents;");
#endif
}
// Until here this kernel may have started before the ones ahead of it were done: it reads only what none of them writes,
// and writes nothing.
PTX_FN void wait_for_kernels_before() {
#if __CUDA_ARCH__ >= 900
    asm volatile("griddepcontrol.wait;" ::: "memory");
#endif
}

#else  // The twins. `standin_gather` gives each lane what all lanes brought.
#define PTX_FN static inline __attribute__((always_inline, unused))

PTX_FN float bf16_to_float(unsigned short x) { return __uint_as_float((unsigned)x << 16); }
PTX_FN unsigned short float_to_bf16(float x) {
    unsigned u = __float_as_uint(x);
    if (x != x) return 0x7FFF;
    return (unsigned short)((u + 0x7FFF + (u >> 16 & 1)) >> 16);
}
PTX_FN unsigned floats_to_bf16x2(float lo, float hi) { return (unsigned)float_to_bf16(hi) << 16 | float_to_bf16(lo); }
PTX_FN float f16_to_float(unsigned short x) {
    int exponent = x >> 10 & 31, fraction = x & 1023;
    unsigned sign = (unsigned)(x >> 15) << 31;
    if (exponent == 0) return __uint_as_float(sign | __float_as_uint(ldexpf((float)fraction, -24)));
    return __uint_as_float(sign | (unsigned)(exponent == 31 ? 255 : exponent + 112) << 23 | (unsigned)fraction << 13);
}
PTX_FN unsigned short float_to_f16(float x) {
    unsigned u = __float_as_uint(x), sign = u >> 16 & 0x8000, magnitude = u & 0x7FFFFFFF;
    if (x != x) return 0x7FFF;
    if (magnitude >= 0x477FF000) return (unsigned short)(sign | 0x7C00);
    if (magnitude < 0x38800000) return (unsigned short)(sign | (unsigned)rintf(ldexpf(__uint_as_float(magnitude), 24)));
    return (unsigned short)(sign | ((magnitude - 0x38000000 + 0xFFF + (magnitude >> 13 & 1)) >> 13));
}
PTX_FN unsigned floats_to_f16x2(float lo, float hi) { return (unsigned)float_to_f16(hi) << 16 | float_to_f16(lo); }

// Rounded twice, to f32 first: right where that is exact.
template <float (*widen)(unsigned short), unsigned short (*narrow)(float)> PTX_FN unsigned standin_fma(unsigned a, unsigned b, unsigned c) {
    unsigned r = 0;
    for (int i = 0; i < 32; i += 16) {
        const float x = widen((unsigned short)(a >> i)), y = widen((unsigned short)(b >> i));
        r |= (unsigned)narrow(fmaf(x, y, widen((unsigned short)(c >> i)))) << i;
    }
    return r;
}
PTX_FN unsigned fma_f16x2(unsigned a, unsigned b, unsigned c) { return standin_fma<f16_to_float, float_to_f16>(a, b, c); }
PTX_FN unsigned fma_bf16x2(unsigned a, unsigned b, unsigned c) { return standin_fma<bf16_to_float, float_to_bf16>(a, b, c); }

PTX_FN float exp2_ftz(float x) {
    const float r = exp2f(x);
    return r < 0x1p-126f ? 0.0f : r;
}

PTX_FN unsigned shared_address(const void* p) { return standin_shared_address(p); }

PTX_FN void let_next_kernel_start() {}
PTX_FN void wait_for_kernels_before() { standin_grid_wait(); }

PTX_FN void cp_async_16(void* shared, const void* global, int line = __builtin_LINE()) { standin_cp_async(shared, global, 16, 16, line); }
PTX_FN void cp_async_16_or_zero(void* shared, const void* global, bool valid, int line = __builtin_LINE()) {
    standin_cp_async(shared, global, 16, valid ? 16 : 0, line);
}
PTX_FN void cp_async_commit() { standin_cp_async_commit(); }
template <int left> PTX_FN void cp_async_wait() { standin_cp_async_wait(left); }

template <int count, bool transposed> PTX_FN void standin_ldmatrix(unsigned (&r)[count], const void* row, const char* kind, int line) {
    const unsigned short* const* rows = (const unsigned short* const*)standin_gather(kind, 0xFFFFFFFFu, &row, sizeof row, line);
    int lane = (int)standin_lane(), g = lane / 4, t = lane % 4;
    if (lane < 8 * count && ((size_t)row & 15)) standin_misaligned(kind, row, 16, line);
    for (int i = 0; i < count; ++i) {
        const unsigned short* const* m = rows + 8 * i;
        r[i] = transposed ? m[2 * t][g] | (unsigned)m[2 * t + 1][g] << 16 : *(const unsigned*)(m[g] + 2 * t);
    }
}
PTX_FN void ldmatrix_x4(unsigned (&r)[4], const void* row, int line = __builtin_LINE()) { standin_ldmatrix<4, false>(r, row, "ldmatrix_x4", line); }
PTX_FN void ldmatrix_x2(unsigned (&r)[2], const void* row, int line = __builtin_LINE()) { standin_ldmatrix<2, false>(r, row, "ldmatrix_x2", line); }
PTX_FN void ldmatrix_x4_trans(unsigned (&r)[4], const void* row, int line = __builtin_LINE()) { standin_ldmatrix<4, true>(r, row, "ldmatrix_x4_trans", line); }
PTX_FN void ldmatrix_x2_trans(unsigned (&r)[2], const void* row, int line = __builtin_LINE()) { standin_ldmatrix<2, true>(r, row, "ldmatrix_x2_trans", line); }

// The lane that comes last computes all of C; the products of a row and a column go in order of k, each sum rounded to
// f32. A card rounds otherwise (it adds a few products at once), so results agree to rounding, not to the bit.
struct standin_fragments { unsigned a[4], b[2]; float c[4]; };
template <float (*widen)(unsigned short)> __attribute__((no_sanitize("thread"), unused)) static void standin_mma(void* all) {
    standin_fragments* lanes = (standin_fragments*)all;
    float a[16][16], b[16][8], c[16][8];
    for (int lane = 0; lane < 32; ++lane) {
        int g = lane / 4, t = lane % 4;
        for (int i = 0; i < 8; ++i) a[g + i / 2 % 2 * 8][2 * t + i % 2 + i / 4 * 8] = widen((unsigned short)(lanes[lane].a[i / 2] >> i % 2 * 16));
        for (int i = 0; i < 4; ++i) b[2 * t + i % 2 + i / 2 * 8][g] = widen((unsigned short)(lanes[lane].b[i / 2] >> i % 2 * 16));
        for (int i = 0; i < 4; ++i) c[g + i / 2 * 8][2 * t + i % 2] = lanes[lane].c[i];
    }
    for (int row = 0; row < 16; ++row)
        for (int k = 0; k < 16; ++k)
            for (int column = 0; column < 8; ++column) c[row][column] = fmaf(a[row][k], b[k][column], c[row][column]);
    for (int lane = 0; lane < 32; ++lane)
        for (int i = 0; i < 4; ++i) lanes[lane].c[i] = c[lane / 4 + i / 2 * 8][2 * (lane % 4) + i % 2];
}
PTX_FN void standin_warp_mma(float (&c)[4], const unsigned (&a)[4], const unsigned (&b)[2], const char* kind, int line, void (*together)(void*)) {
    standin_fragments mine = {{a[0], a[1], a[2], a[3]}, {b[0], b[1]}, {c[0], c[1], c[2], c[3]}};
    const standin_fragments* all = (const standin_fragments*)standin_collective(kind, 0xFFFFFFFFu, &mine, sizeof mine, line, together);
    for (int i = 0; i < 4; ++i) c[i] = all[standin_lane()].c[i];
}
PTX_FN void mma_m16n8k16_bf16(float (&c)[4], const unsigned (&a)[4], const unsigned (&b)[2], int line = __builtin_LINE()) {
    standin_warp_mma(c, a, b, "mma_m16n8k16_bf16", line, standin_mma<bf16_to_float>);
}
PTX_FN void mma_m16n8k16_f16(float (&c)[4], const unsigned (&a)[4], const unsigned (&b)[2], int line = __builtin_LINE()) {
    standin_warp_mma(c, a, b, "mma_m16n8k16_f16", line, standin_mma<f16_to_float>);
}
// In the order of the columns, as above.
__attribute__((no_sanitize("thread"), unused)) static float standin_e4m3_to_float(unsigned bits) {
    if ((bits & 0x7F) == 0x7F) return __uint_as_float(0x7FC00000);
    return __uint_as_float((bits & 0x80) << 24 | (bits & 0x7F) << 20) * 0x1p120f;
}
__attribute__((no_sanitize("thread"), unused)) static void standin_mma_e4m3(void* all) {
    standin_fragments* lanes = (standin_fragments*)all;
    float a[16][32], b[32][8];
    for (int lane = 0; lane < 32; ++lane) {
        int g = lane / 4, t = lane % 4;
        for (int i = 0; i < 16; ++i) a[g + i / 4 % 2 * 8][4 * t + i % 4 + i / 8 * 16] = standin_e4m3_to_float(lanes[lane].a[i / 4] >> i % 4 * 8 & 0xFF);
        for (int i = 0; i < 8; ++i) b[4 * t + i % 4 + i / 4 * 16][g] = standin_e4m3_to_float(lanes[lane].b[i / 4] >> i % 4 * 8 & 0xFF);
    }
    for (int lane = 0; lane < 32; ++lane)
        for (int i = 0; i < 4; ++i)
            for (int k = 0; k < 32; ++k) {
                const int row = lane / 4 + i / 2 * 8, column = 2 * (lane % 4) + i % 2;
                lanes[lane].c[i] = fmaf(a[row][k], b[k][column], lanes[lane].c[i]);
            }
}
PTX_FN void mma_m16n8k32_e4m3(float (&c)[4], const unsigned (&a)[4], const unsigned (&b)[2], int line = __builtin_LINE()) {
    standin_warp_mma(c, a, b, "mma_m16n8k32_e4m3", line, standin_mma_e4m3);
}
#endif

// What a kernel begins with that needs nothing before the ones ahead of it are done.
static __device__ __forceinline__ void take_turn() {
    let_next_kernel_start();
    wait_for_kernels_before();
}
