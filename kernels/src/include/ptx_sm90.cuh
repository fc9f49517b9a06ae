// Inline PTX of sm_90a, and its twins: bulk copies by tensor map, mbarriers, wgmma, and what goes with them. See
// ptx.cuh; the twins' side of it is in the stand-in driver. PTX ISA: "Asynchronous copy: cp.async.bulk.tensor",
// "mbarrier", "Asynchronous warpgroup level matrix instructions".
//
// An address in shared memory is the `unsigned` of shared_address.
#pragma once
#include "ptx.cuh"

// CUtensorMap: made by the driver, handed over as a __grid_constant__ argument.
struct alignas(64) TensorMap {
    unsigned long long words[16];
};

// Describes an operand of wgmma: rows of 128 bytes, one below the other, swizzled by 128 bytes, whose first is at a
// multiple of 1024. Adding 2 moves it 32 bytes along the row: one step of K.
static __device__ __forceinline__ unsigned long long wgmma_operand(unsigned address) {
    const unsigned long long leading = 1, groups_of_8_rows = 1024 >> 4, swizzle_128 = 1;
    return (address & 0x3FFFF) >> 4 | leading << 16 | groups_of_8_rows << 32 | swizzle_128 << 62;
}

// The same of rows of K, columns contiguous: 64 of them in each row of 128 bytes, and the next 64 `columns_apart` bytes
// further. Adding 128 moves it 16 rows.
static __device__ __forceinline__ unsigned long long wgmma_transposed(unsigned address, unsigned columns_apart) {
    const unsigned long long groups_of_8_rows = 1024 >> 4, swizzle_128 = 1;
    return (address & 0x3FFFF) >> 4 | (unsigned long long)(columns_apart >> 4) << 16 | groups_of_8_rows << 32 | swizzle_128 << 62;
}

#ifndef GRISTMILL_STANDIN

// ---- mbarriers: 8 bytes of shared memory at a multiple of 8 ----
// For phases of `count` arrivals.
PTX_FN void mbarrier_init(unsigned mbarrier, unsigned count) {
    asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(mbarrier), "r"(count) : "memory");
}
// Shows initialised mbarriers, and all that was written to shared memory, to bulk copies and wgmma.
PTX_FN void fence_mbarrier_init() { asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory"); }
PTX_FN void fence_proxy_async() { asm volatile("fence.proxy.async.shared::cta;" ::: "memory"); }
PTX_FN void mbarrier_arrive(unsigned mbarrier) {
    asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(mbarrier) : "memory");
}
// Without a branch: where `arrives` differs between lanes, one would part products from the wait for them.
PTX_FN void mbarrier_arrive_if(unsigned mbarrier, bool arrives) {
    asm volatile("{\n.reg .pred arrives;\nsetp.ne.b32 arrives, %1, 0;\n"
                 "@arrives mbarrier.arrive.shared::cta.b64 _, [%0];\n}\n" ::"r"(mbarrier), "r"((int)arrives) : "memory");
}
// Arrives, and announces so many bytes of bulk copies to this phase.
PTX_FN void mbarrier_arrive_expect(unsigned mbarrier, unsigned bytes) {
    asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(mbarrier), "r"(bytes) : "memory");
}
// Waits until the phase of this parity is over. The phase before the first one has parity 1.
PTX_FN void mbarrier_wait(unsigned mbarrier, unsigned parity) {
    asm volatile("{\n.reg .pred done;\n"
                 "AGAIN: mbarrier.try_wait.parity.shared::cta.b64 done, [%0], %1;\n@!done bra AGAIN;\n}\n"
                 ::"r"(mbarrier), "r"(parity) : "memory");
}

// ---- bulk copies: the map's box from (column, row) on; what lies outside of the matrix becomes zero ----
PTX_FN void bulk_copy(unsigned to, const TensorMap& map, unsigned mbarrier, int column, int row) {
    asm volatile("cp.async.bulk.tensor.2d.shared::cluster.global.tile.mbarrier::complete_tx::bytes [%0], [%1, {%3, %4}], [%2];"
                 ::"r"(to), "l"(&map), "r"(mbarrier), "r"(column), "r"(row) : "memory");
}

// Brings the map itself onto the multiprocessor.
PTX_FN void prefetch_map(const TensorMap& map) { asm volatile("prefetch.tensormap [%0];" ::"l"(&map) : "memory"); }

// ---- a barrier of some warps: 1 to 15 ----
PTX_FN void named_barrier(unsigned barrier, unsigned threads) {
    asm volatile("bar.sync %0, %1;" ::"r"(barrier), "r"(threads) : "memory");
}

// ---- registers of a warpgroup's threads, from here on ----
template <int registers> PTX_FN void give_registers() { asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(registers)); }
template <int registers> PTX_FN void take_registers() { asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(registers)); }

// ---- stmatrix, transposed: the inverse of ldmatrix_x2_trans, and the same for one matrix ----
PTX_FN void stmatrix_trans(unsigned row, unsigned r) {
    asm volatile("stmatrix.sync.aligned.m8n8.x1.trans.shared.b16 [%0], {%1};" ::"r"(row), "r"(r) : "memory");
}
PTX_FN void stmatrix_x2_trans(unsigned row, const unsigned (&r)[2]) {
    asm volatile("stmatrix.sync.aligned.m8n8.x2.trans.shared.b16 [%0], {%1, %2};" ::"r"(row), "r"(r[0]), "r"(r[1]) : "memory");
}

// ---- two e4m3 elements, nearest to lo and hi, the even one of two; what is beyond their range becomes the greatest ----
PTX_FN unsigned floats_to_e4m3x2(float lo, float hi) {
    unsigned short two;
    asm("cvt.rn.satfinite.e4m3x2.f32 %0, %1, %2;" : "=h"(two) : "f"(hi), "f"(lo));
    return two;
}

// ---- wgmma: d[64 x N] (+)= a[64 x K] b[N x K]^T by a warpgroup, both operands in shared memory ----
// K is 16 elements of two bytes or 32 of one.
// With g = lane / 4 and t = lane % 4 a lane of warp w holds of columns 8 j to 8 j + 7
// d[4 j] = D(16 w + g, 8 j + 2 t)  d[4 j + 1] = D(16 w + g, 8 j + 2 t + 1)  d[4 j + 2], d[4 j + 3]: row 16 w + g + 8
PTX_FN void wgmma_fence() { asm volatile("wgmma.fence.sync.aligned;" ::: "memory"); }
PTX_FN void wgmma_commit() { asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory"); }
// Waits until at most `left` groups of this warp are under way.
template <int left> PTX_FN void wgmma_wait() { asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(left) : "memory"); }
// Keeps the compiler from using accumulators before the wait.
template <int count> PTX_FN void wgmma_results(float (&d)[count]) {
#pragma unroll
    for (int i = 0; i < count; i++) asm volatile("" : "+f"(d[i])::"memory");
}
// The same of rows that are handed over in registers, before the fence.
template <int steps> PTX_FN void wgmma_rows(unsigned (&a)[steps][4]) {
#pragma unroll
    for (int i = 0; i < steps; i++) asm volatile("" : "+r"(a[i][0]), "+r"(a[i][1]), "+r"(a[i][2]), "+r"(a[i][3])::"memory");
}

// `keep`: add to what d holds.
template <class T, int N> struct Wgmma;

#define D4(i) "+f"(d[i]), "+f"(d[i + 1]), "+f"(d[i + 2]), "+f"(d[i + 3])
#define D8(i) D4(i), D4(i + 4)
#define D16(i) D8(i), D8(i + 8)
#define D32(i) D16(i), D16(i + 16)
#define R4 "%0, %1, %2, %3"
#define R8 R4 ", %4, %5, %6, %7"
#define R16 R8 ", %8, %9, %10, %11, %12, %13, %14, %15"
#define R32 R16 ", %16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31"
#define R64 R32 ", %32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47" \
                ", %48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63"
#define R48 R32 ", %32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47"
#define R80 R64 ", %64, %65, %66, %67, %68, %69, %70, %71, %72, %73, %74, %75, %76, %77, %78, %79"
#define R96 R64 ", %64, %65, %66, %67, %68, %69, %70, %71, %72, %73, %74, %75, %76, %77, %78, %79" \
                ", %80, %81, %82, %83, %84, %85, %86, %87, %88, %89, %90, %91, %92, %93, %94, %95"
#define R128 R96 ", %96, %97, %98, %99, %100, %101, %102, %103, %104, %105, %106, %107, %108, %109, %110, %111" \
                 ", %112, %113, %114, %115, %116, %117, %118, %119, %120, %121, %122, %123, %124, %125, %126, %127"

// `deep`: K in the name; `last`: of elements of two bytes, that neither operand is transposed.
#define WGMMA(T, type, deep, last, N, registers, a_at, b_at, keep_at, ...)                                                         \
    template <> struct Wgmma<T, N> {                                                                                   \
        static __device__ __forceinline__ void multiply(                                                               \
            float (&d)[N / 2], unsigned long long a, unsigned long long b, int keep) {                                 \
            asm volatile("{\n.reg .pred keep;\nsetp.ne.b32 keep, " keep_at ", 0;\n"                                    \
                         "wgmma.mma_async.sync.aligned.m64n" #N deep ".f32." type "." type " {" registers "}, " a_at     \
                         ", " b_at ", keep, 1, 1" last ";\n}\n"                                                          \
                         : __VA_ARGS__ : "l"(a), "l"(b), "r"(keep));                                                   \
        }                                                                                                              \
    };
#define WGMMAS(T, type, deep, last)                                                                                    \
    WGMMA(T, type, deep, last, 8, R4, "%4", "%5", "%6", D4(0))                                                                     \
    WGMMA(T, type, deep, last, 16, R8, "%8", "%9", "%10", D8(0))                                                                   \
    WGMMA(T, type, deep, last, 32, R16, "%16", "%17", "%18", D16(0))                                                               \
    WGMMA(T, type, deep, last, 64, R32, "%32", "%33", "%34", D32(0))                                                               \
    WGMMA(T, type, deep, last, 96, R48, "%48", "%49", "%50", D32(0), D16(32))                                                      \
    WGMMA(T, type, deep, last, 160, R80, "%80", "%81", "%82", D32(0), D32(32), D16(64))                                            \
    WGMMA(T, type, deep, last, 128, R64, "%64", "%65", "%66", D32(0), D32(32))                                                     \
    WGMMA(T, type, deep, last, 192, R96, "%96", "%97", "%98", D32(0), D32(32), D32(64))                                            \
    WGMMA(T, type, deep, last, 256, R128, "%128", "%129", "%130", D32(0), D32(32), D32(64), D32(96))

// The same with a in registers: of each warp's 16 rows as mma has them. `transposed`: b's columns are contiguous.
template <class T, int N, bool transposed> struct WgmmaRows;

#define WGMMA_ROWS(T, type, N, registers, a_at, b_at, keep_at, transposed_at, ...)                                     \
    template <bool transposed> struct WgmmaRows<T, N, transposed> {                                                    \
        static __device__ __forceinline__ void multiply(                                                               \
            float (&d)[N / 2], const unsigned (&a)[4], unsigned long long b, int keep) {                               \
            asm volatile("{\n.reg .pred keep;\nsetp.ne.b32 keep, " keep_at ", 0;\n"                                    \
                         "wgmma.mma_async.sync.aligned.m64n" #N "k16.f32." type "." type " {" registers "}, {" a_at    \
                         "}, " b_at ", keep, 1, 1, " transposed_at ";\n}\n"                                            \
                         : __VA_ARGS__                                                                                 \
                         : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "r"(keep), "n"(int(transposed)));       \
        }                                                                                                              \
    };
#define WGMMAS_ROWS(T, type)                                                                                           \
    WGMMA_ROWS(T, type, 64, R32, "%32, %33, %34, %35", "%36", "%37", "%38", D32(0))                                    \
    WGMMA_ROWS(T, type, 128, R64, "%64, %65, %66, %67", "%68", "%69", "%70", D32(0), D32(32))

#else  // The twins. The stand-in driver has mbarriers, bulk copies and products.

PTX_FN void mbarrier_init(unsigned mbarrier, unsigned count, int line = __builtin_LINE()) { standin_mbarrier_init(mbarrier, count, line); }
PTX_FN void fence_mbarrier_init() {}
PTX_FN void fence_proxy_async() { standin_fence_proxy_async(); }
PTX_FN void mbarrier_arrive(unsigned mbarrier, int line = __builtin_LINE()) { standin_mbarrier_arrive(mbarrier, 0, line); }
PTX_FN void mbarrier_arrive_if(unsigned mbarrier, bool arrives, int line = __builtin_LINE()) {
    if (arrives) standin_mbarrier_arrive(mbarrier, 0, line);
}
PTX_FN void mbarrier_arrive_expect(unsigned mbarrier, unsigned bytes, int line = __builtin_LINE()) { standin_mbarrier_arrive(mbarrier, bytes, line); }
PTX_FN void mbarrier_wait(unsigned mbarrier, unsigned parity, int line = __builtin_LINE()) { standin_mbarrier_wait(mbarrier, parity, line); }
PTX_FN void bulk_copy(unsigned to, const TensorMap& map, unsigned mbarrier, int column, int row, int line = __builtin_LINE()) {
    standin_bulk_copy(to, &map, mbarrier, column, row, line);
}
PTX_FN void prefetch_map(const TensorMap&) {}
PTX_FN void named_barrier(unsigned barrier, unsigned threads, int line = __builtin_LINE()) { standin_named_barrier(barrier, threads, line); }
template <int registers> PTX_FN void give_registers(int line = __builtin_LINE()) { standin_setmaxnreg(registers, 0, line); }
template <int registers> PTX_FN void take_registers(int line = __builtin_LINE()) { standin_setmaxnreg(registers, 1, line); }
template <int count> PTX_FN void standin_stmatrix(unsigned row, const unsigned* r, const char* kind, int line) {
    unsigned short* mine = (unsigned short*)standin_shared_pointer(row);
    unsigned short* const* rows = (unsigned short* const*)standin_gather(kind, 0xFFFFFFFFu, &mine, sizeof mine, line);
    int lane = (int)standin_lane(), g = lane / 4, t = lane % 4;
    if (lane < 8 * count && ((size_t)mine & 15)) standin_misaligned(kind, mine, 16, line);
    for (int i = 0; i < 2 * count; ++i) rows[8 * (i / 2) + 2 * t + i % 2][g] = (unsigned short)(r[i / 2] >> i % 2 * 16);
}
PTX_FN void stmatrix_trans(unsigned row, unsigned r, int line = __builtin_LINE()) { standin_stmatrix<1>(row, &r, "stmatrix_trans", line); }
PTX_FN void stmatrix_x2_trans(unsigned row, const unsigned (&r)[2], int line = __builtin_LINE()) {
    standin_stmatrix<2>(row, r, "stmatrix_x2_trans", line);
}
PTX_FN unsigned standin_e4m3(float x) {
    const unsigned bits = __float_as_uint(x), sign = bits >> 24 & 0x80, magnitude = bits & 0x7fffffff;
    if (magnitude > 0x7f800000) return sign | 0x7f;
    if (magnitude >= 0x43e00000) return sign | 0x7e;                                       // 448
    if (magnitude < 0x3c800000) return sign | (unsigned)rintf(__uint_as_float(magnitude) * 512.0f); // 2^-6
    return sign | (magnitude + 0x7ffff + (magnitude >> 20 & 1) - (120u << 23)) >> 20;
}
PTX_FN unsigned floats_to_e4m3x2(float lo, float hi) { return standin_e4m3(lo) | standin_e4m3(hi) << 8; }
PTX_FN void wgmma_fence(int line = __builtin_LINE()) { standin_wgmma_fence(line); }
PTX_FN void wgmma_commit(int line = __builtin_LINE()) { standin_wgmma_commit(line); }
template <int left> PTX_FN void wgmma_wait(int line = __builtin_LINE()) { standin_wgmma_wait(left, line); }
template <int count> PTX_FN void wgmma_results(float (&)[count]) {}
template <int steps> PTX_FN void wgmma_rows(unsigned (&)[steps][4]) {}
template <class T, int N> struct Wgmma;
#define WGMMAS(T, type, deep, last)                                                                                    \
    template <int N> struct Wgmma<T, N> {                                                                              \
        static inline __attribute__((always_inline)) void multiply(                                                    \
            float (&d)[N / 2], unsigned long long a, unsigned long long b, int keep, int line = __builtin_LINE()) {    \
            standin_wgmma(d, N, type[0] == 'b' ? 0 : type[0] == 'f' ? 1 : 2, a, b, keep, line);                                                     \
        }                                                                                                              \
    };
template <class T, int N, bool transposed> struct WgmmaRows;
#define WGMMAS_ROWS(T, type)                                                                                           \
    template <int N, bool transposed> struct WgmmaRows<T, N, transposed> {                                             \
        static inline __attribute__((always_inline)) void multiply(                                                    \
            float (&d)[N / 2], const unsigned (&a)[4], unsigned long long b, int keep, int line = __builtin_LINE()) {  \
            standin_wgmma_registers(d, N, type[0] == 'f', a, b, transposed, keep, line);                               \
        }                                                                                                              \
    };
#endif
