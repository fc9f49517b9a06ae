// What NVRTC gives every kernel without an include, for the machine's C++ compiler. No header of the host is used:
// a kernel that needs one would not compile with NVRTC either.
#pragma once
#define GRISTMILL_STANDIN 1
#define __CUDACC__ 1
#define __CUDACC_RTC__ 1

using size_t = decltype(sizeof 0);
using ptrdiff_t = decltype((char*)nullptr - (char*)nullptr);

#define STANDIN_FN static inline __attribute__((always_inline, unused))
#define STANDIN_LINE int line = __builtin_LINE()

// ---- vector types ----
#define STANDIN_VECTOR(T, name, a1, a2, a4)                                                            \
    struct alignas(a1) name##1 { T x; };                                                               \
    struct alignas(a2) name##2 { T x, y; };                                                            \
    struct name##3 { T x, y, z; };                                                                     \
    struct alignas(a4) name##4 { T x, y, z, w; };                                                      \
    STANDIN_FN name##1 make_##name##1(T x) { return {x}; }                                             \
    STANDIN_FN name##2 make_##name##2(T x, T y) { return {x, y}; }                                     \
    STANDIN_FN name##3 make_##name##3(T x, T y, T z) { return {x, y, z}; }                             \
    STANDIN_FN name##4 make_##name##4(T x, T y, T z, T w) { return {x, y, z, w}; }
STANDIN_VECTOR(signed char, char, 1, 2, 4)
STANDIN_VECTOR(unsigned char, uchar, 1, 2, 4)
STANDIN_VECTOR(short, short, 2, 4, 8)
STANDIN_VECTOR(unsigned short, ushort, 2, 4, 8)
STANDIN_VECTOR(int, int, 4, 8, 16)
STANDIN_VECTOR(unsigned, uint, 4, 8, 16)
STANDIN_VECTOR(long long, longlong, 8, 16, 16)
STANDIN_VECTOR(unsigned long long, ulonglong, 8, 16, 16)
STANDIN_VECTOR(float, float, 4, 8, 16)
STANDIN_VECTOR(double, double, 8, 16, 16)
struct dim3 {
    unsigned x, y, z;
    constexpr dim3(unsigned x = 1, unsigned y = 1, unsigned z = 1) : x(x), y(y), z(z) {}
};

// ---- the driver's side ----
extern "C" {
uint3 standin_thread_idx() __attribute__((const));
uint3 standin_block_idx() __attribute__((const));
uint3 standin_block_dim() __attribute__((const));
uint3 standin_grid_dim() __attribute__((const));
unsigned standin_lane() __attribute__((const));
int standin_syncthreads(const char* kind, int op, int predicate, int line);
const void* standin_collective(const char* kind, unsigned mask, const void* mine, unsigned bytes, int line, void (*together)(void*));
void standin_bad_lane(const char* kind, unsigned mask, int lane, int line);
void standin_misaligned(const char* what, const void* address, unsigned alignment, int line);
void standin_assert_fail(const char* expression, const char* file, int line);
void standin_trap(int line);
void standin_grid_wait();
bool standin_cas32(unsigned* p, unsigned* expected, unsigned desired);
bool standin_cas64(unsigned long long* p, unsigned long long* expected, unsigned long long desired);
void standin_cp_async(void* to, const void* from, unsigned bytes, unsigned read, int line);
void standin_cp_async_commit();
void standin_cp_async_wait(unsigned left);
void standin_cp_async_wait_all();
unsigned standin_shared_address(const void* p);
void* standin_shared_pointer(unsigned address);
void standin_mbarrier_init(unsigned mbarrier, unsigned count, int line);
void standin_mbarrier_arrive(unsigned mbarrier, unsigned bytes, int line);
void standin_mbarrier_wait(unsigned mbarrier, unsigned parity, int line);
void standin_fence_proxy_async();
void standin_bulk_copy(unsigned to, const void* map, unsigned mbarrier, int column, int row, int line);
void standin_named_barrier(unsigned barrier, unsigned threads, int line);
void standin_setmaxnreg(unsigned registers, int increase, int line);
void standin_wgmma(float* d, unsigned n, int type, unsigned long long a, unsigned long long b, int keep, int line);
void standin_wgmma_registers(float* d, unsigned n, int type, const unsigned* a, unsigned long long b, int transposed, int keep, int line);
void standin_wgmma_fence(int line);
void standin_wgmma_commit(int line);
void standin_wgmma_wait(unsigned left, int line);
int printf(const char*, ...);
void* memcpy(void*, const void*, size_t) noexcept;
void* memset(void*, int, size_t) noexcept;
}
STANDIN_FN const void* standin_gather(const char* kind, unsigned mask, const void* mine, unsigned bytes, int line) {
    return standin_collective(kind, mask, mine, bytes, line, nullptr);
}
#define threadIdx (standin_thread_idx())
#define blockIdx (standin_block_idx())
#define blockDim (standin_block_dim())
#define gridDim (standin_grid_dim())
#define warpSize 32
#define assert(e) ((e) ? (void)0 : standin_assert_fail(#e, __FILE__, __LINE__))
#define __trap() standin_trap(__LINE__)

// ---- barriers and warp collectives: the calling line names the barrier ----
STANDIN_FN void __syncthreads(STANDIN_LINE) { standin_syncthreads("__syncthreads", 0, 0, line); }
STANDIN_FN int __syncthreads_count(int p, STANDIN_LINE) { return standin_syncthreads("__syncthreads_count", 1, p, line); }
STANDIN_FN int __syncthreads_or(int p, STANDIN_LINE) { return standin_syncthreads("__syncthreads_or", 2, p, line); }
STANDIN_FN int __syncthreads_and(int p, STANDIN_LINE) { return standin_syncthreads("__syncthreads_and", 3, p, line); }
STANDIN_FN void __syncwarp(unsigned mask = 0xFFFFFFFFu, STANDIN_LINE) { char none = 0; standin_gather("__syncwarp", mask, &none, 1, line); }

template <class T> STANDIN_FN T standin_lane_value(const char* kind, const void* all, unsigned mask, int lane, int line) {
    if (!(mask >> lane & 1)) standin_bad_lane(kind, mask, lane, line);
    T value;
    __builtin_memcpy(&value, (const char*)all + lane * sizeof(T), sizeof(T));
    return value;
}
#define STANDIN_SHFL(name, argument, choose)                                                                        \
    template <class T> STANDIN_FN T name(unsigned mask, T v, argument, int width = 32, STANDIN_LINE) {               \
        const void* all = standin_gather(#name, mask, &v, sizeof v, line);                                           \
        int me = (int)standin_lane(), base = me & ~(width - 1), last = base + width - 1, from = choose;              \
        return standin_lane_value<T>(#name, all, mask, from, line);                                                  \
    }
STANDIN_SHFL(__shfl_sync, int lane, (last, base + (lane & (width - 1))))
STANDIN_SHFL(__shfl_up_sync, unsigned delta, (last, me - (int)delta < base ? me : me - (int)delta))
STANDIN_SHFL(__shfl_down_sync, unsigned delta, (me + (int)delta > last ? me : me + (int)delta))
STANDIN_SHFL(__shfl_xor_sync, int bits, ((me ^ bits) > last ? me : me ^ bits))

template <class T, class F> STANDIN_FN T standin_fold(const char* kind, unsigned mask, T v, int line, F f) {
    const void* all = standin_gather(kind, mask, &v, sizeof v, line);
    bool first = true;
    T sum{};
    for (int l = 0; l < 32; ++l) {
        if (!(mask >> l & 1)) continue;
        T x = standin_lane_value<T>(kind, all, mask, l, line);
        sum = first ? x : f(sum, x);
        first = false;
    }
    return sum;
}
STANDIN_FN unsigned __ballot_sync(unsigned mask, int p, STANDIN_LINE) {
    return standin_fold("__ballot_sync", mask, p ? 1u << standin_lane() : 0u, line, [](unsigned a, unsigned b) { return a | b; });
}
STANDIN_FN int __any_sync(unsigned mask, int p, STANDIN_LINE) { return standin_fold("__any_sync", mask, int(p != 0), line, [](int a, int b) { return a | b; }); }
STANDIN_FN int __all_sync(unsigned mask, int p, STANDIN_LINE) { return standin_fold("__all_sync", mask, int(p != 0), line, [](int a, int b) { return a & b; }); }
#define STANDIN_REDUCE(name, T, expression) \
    STANDIN_FN T name(unsigned mask, T v, STANDIN_LINE) { return standin_fold(#name, mask, v, line, [](T a, T b) { return (T)(expression); }); }
STANDIN_REDUCE(__reduce_add_sync, unsigned, a + b) STANDIN_REDUCE(__reduce_add_sync, int, a + b)
STANDIN_REDUCE(__reduce_min_sync, unsigned, a < b ? a : b) STANDIN_REDUCE(__reduce_min_sync, int, a < b ? a : b)
STANDIN_REDUCE(__reduce_max_sync, unsigned, a > b ? a : b) STANDIN_REDUCE(__reduce_max_sync, int, a > b ? a : b)
STANDIN_REDUCE(__reduce_and_sync, unsigned, a & b) STANDIN_REDUCE(__reduce_or_sync, unsigned, a | b) STANDIN_REDUCE(__reduce_xor_sync, unsigned, a ^ b)

STANDIN_FN void __threadfence() {}
STANDIN_FN void __threadfence_block() {}
STANDIN_FN void __threadfence_system() {}
STANDIN_FN void __nanosleep(unsigned) {}

// ---- floats ----
extern "C" {
#define STANDIN_F1(name) float name##f(float) noexcept; double name(double) noexcept;
STANDIN_F1(sqrt) STANDIN_F1(exp) STANDIN_F1(exp2) STANDIN_F1(expm1) STANDIN_F1(log) STANDIN_F1(log2) STANDIN_F1(log10)
STANDIN_F1(log1p) STANDIN_F1(sin) STANDIN_F1(cos) STANDIN_F1(tan) STANDIN_F1(tanh) STANDIN_F1(sinh) STANDIN_F1(cosh)
STANDIN_F1(atan) STANDIN_F1(erf) STANDIN_F1(erfc) STANDIN_F1(fabs) STANDIN_F1(floor) STANDIN_F1(ceil) STANDIN_F1(rint)
STANDIN_F1(nearbyint) STANDIN_F1(round) STANDIN_F1(trunc) STANDIN_F1(cbrt)
#define STANDIN_F2(name) float name##f(float, float) noexcept; double name(double, double) noexcept;
STANDIN_F2(fmax) STANDIN_F2(fmin) STANDIN_F2(pow) STANDIN_F2(fmod) STANDIN_F2(copysign) STANDIN_F2(atan2)
float fmaf(float, float, float) noexcept; double fma(double, double, double) noexcept;
float ldexpf(float, int) noexcept; float scalbnf(float, int) noexcept;
float frexpf(float, int*) noexcept; void sincosf(float, float*, float*) noexcept;
}
// C++ overloads: `exp` of a float is `expf`.
#define STANDIN_OVERLOAD(name) STANDIN_FN float name(float x) { return name##f(x); }
STANDIN_OVERLOAD(sqrt) STANDIN_OVERLOAD(exp) STANDIN_OVERLOAD(exp2) STANDIN_OVERLOAD(expm1) STANDIN_OVERLOAD(log) STANDIN_OVERLOAD(log2)
STANDIN_OVERLOAD(log10) STANDIN_OVERLOAD(log1p) STANDIN_OVERLOAD(sin) STANDIN_OVERLOAD(cos) STANDIN_OVERLOAD(tanh) STANDIN_OVERLOAD(erf)
STANDIN_OVERLOAD(fabs) STANDIN_OVERLOAD(floor) STANDIN_OVERLOAD(ceil) STANDIN_OVERLOAD(rint) STANDIN_OVERLOAD(round) STANDIN_OVERLOAD(trunc)
STANDIN_FN float abs(float x) { return fabsf(x); }
STANDIN_FN float pow(float a, float b) { return powf(a, b); }
STANDIN_FN float fmax(float a, float b) { return fmaxf(a, b); }
STANDIN_FN float fmin(float a, float b) { return fminf(a, b); }
STANDIN_FN float fma(float a, float b, float c) { return fmaf(a, b, c); }
STANDIN_FN float rsqrtf(float x) { return 1.0f / sqrtf(x); }
STANDIN_FN float rsqrt(float x) { return 1.0f / sqrtf(x); }
STANDIN_FN double rsqrt(double x) { return 1.0 / sqrt(x); }
STANDIN_FN float fdividef(float a, float b) { return a / b; }
STANDIN_FN float exp10f(float x) { return powf(10.0f, x); }
STANDIN_FN bool signbit(float x) { return __builtin_signbit(x) != 0; }
STANDIN_FN bool isnan(float x) { return __builtin_isnan(x); }
STANDIN_FN bool isinf(float x) { return __builtin_isinf(x) != 0; }
STANDIN_FN bool isfinite(float x) { return __builtin_isfinite(x); }
STANDIN_FN float __expf(float x) { return expf(x); }
STANDIN_FN float __exp10f(float x) { return exp10f(x); }
STANDIN_FN float __logf(float x) { return logf(x); }
STANDIN_FN float __log2f(float x) { return log2f(x); }
STANDIN_FN float __log10f(float x) { return log10f(x); }
STANDIN_FN float __tanhf(float x) { return tanhf(x); }
STANDIN_FN float __powf(float a, float b) { return powf(a, b); }
STANDIN_FN float __sinf(float x) { return sinf(x); }
STANDIN_FN float __cosf(float x) { return cosf(x); }
STANDIN_FN void __sincosf(float x, float* s, float* c) { sincosf(x, s, c); }
STANDIN_FN float __fdividef(float a, float b) { return a / b; }
STANDIN_FN float __frcp_rn(float x) { return 1.0f / x; }
STANDIN_FN float __fsqrt_rn(float x) { return sqrtf(x); }
STANDIN_FN float __frsqrt_rn(float x) { return 1.0f / sqrtf(x); }
STANDIN_FN float __fmaf_rn(float a, float b, float c) { return fmaf(a, b, c); }
STANDIN_FN float __fadd_rn(float a, float b) { return a + b; }
STANDIN_FN float __fsub_rn(float a, float b) { return a - b; }
STANDIN_FN float __fmul_rn(float a, float b) { return a * b; }
STANDIN_FN float __fdiv_rn(float a, float b) { return a / b; }
STANDIN_FN float __saturatef(float x) { return x > 0.0f ? (x < 1.0f ? x : 1.0f) : 0.0f; }
template <class To, class From> STANDIN_FN To standin_bits(From v) { To to; __builtin_memcpy(&to, &v, sizeof to); return to; }
STANDIN_FN unsigned __float_as_uint(float x) { return standin_bits<unsigned>(x); }
STANDIN_FN int __float_as_int(float x) { return standin_bits<int>(x); }
STANDIN_FN float __uint_as_float(unsigned x) { return standin_bits<float>(x); }
STANDIN_FN float __int_as_float(int x) { return standin_bits<float>(x); }
STANDIN_FN long long __double_as_longlong(double x) { return standin_bits<long long>(x); }
STANDIN_FN double __longlong_as_double(long long x) { return standin_bits<double>(x); }
// As a card converts: saturating, NaN becomes 0.
template <class I> STANDIN_FN I standin_to_int(float x, I lo, I hi) { return x != x ? 0 : x <= (float)lo ? lo : x >= (float)hi ? hi : (I)x; }
STANDIN_FN int __float2int_rn(float x) { return standin_to_int<int>(rintf(x), -2147483647 - 1, 2147483647); }
STANDIN_FN int __float2int_rz(float x) { return standin_to_int<int>(truncf(x), -2147483647 - 1, 2147483647); }
STANDIN_FN int __float2int_rd(float x) { return standin_to_int<int>(floorf(x), -2147483647 - 1, 2147483647); }
STANDIN_FN int __float2int_ru(float x) { return standin_to_int<int>(ceilf(x), -2147483647 - 1, 2147483647); }
STANDIN_FN unsigned __float2uint_rn(float x) { return standin_to_int<unsigned>(rintf(x), 0, 4294967295u); }
STANDIN_FN unsigned __float2uint_rz(float x) { return standin_to_int<unsigned>(truncf(x), 0, 4294967295u); }
STANDIN_FN float __int2float_rn(int x) { return (float)x; }
STANDIN_FN float __uint2float_rn(unsigned x) { return (float)x; }

// ---- integers ----
#define STANDIN_MINMAX(T) STANDIN_FN T min(T a, T b) { return b < a ? b : a; } STANDIN_FN T max(T a, T b) { return a < b ? b : a; }
STANDIN_MINMAX(int) STANDIN_MINMAX(unsigned) STANDIN_MINMAX(long) STANDIN_MINMAX(unsigned long) STANDIN_MINMAX(long long) STANDIN_MINMAX(unsigned long long)
STANDIN_FN unsigned min(int a, unsigned b) { return min((unsigned)a, b); }
STANDIN_FN unsigned min(unsigned a, int b) { return min(a, (unsigned)b); }
STANDIN_FN unsigned max(int a, unsigned b) { return max((unsigned)a, b); }
STANDIN_FN unsigned max(unsigned a, int b) { return max(a, (unsigned)b); }
STANDIN_FN float min(float a, float b) { return fminf(a, b); }
STANDIN_FN float max(float a, float b) { return fmaxf(a, b); }
STANDIN_FN double min(double a, double b) { return fmin(a, b); }
STANDIN_FN double max(double a, double b) { return fmax(a, b); }
STANDIN_FN int abs(int x) { return x < 0 ? -x : x; }
STANDIN_FN double abs(double x) { return fabs(x); }
STANDIN_FN int __popc(unsigned x) { return __builtin_popcount(x); }
STANDIN_FN int __popcll(unsigned long long x) { return __builtin_popcountll(x); }
STANDIN_FN int __clz(int x) { return x ? __builtin_clz((unsigned)x) : 32; }
STANDIN_FN int __clzll(long long x) { return x ? __builtin_clzll((unsigned long long)x) : 64; }
STANDIN_FN int __ffs(int x) { return __builtin_ffs(x); }
STANDIN_FN int __ffsll(long long x) { return __builtin_ffsll(x); }
STANDIN_FN unsigned __brev(unsigned x) {
    unsigned r = 0;
    for (int i = 0; i < 32; ++i) r |= (x >> i & 1) << (31 - i);
    return r;
}
STANDIN_FN unsigned __umulhi(unsigned a, unsigned b) { return (unsigned)((unsigned long long)a * b >> 32); }
STANDIN_FN int __mulhi(int a, int b) { return (int)((long long)a * b >> 32); }
STANDIN_FN unsigned long long __umul64hi(unsigned long long a, unsigned long long b) { return (unsigned long long)((unsigned __int128)a * b >> 64); }
STANDIN_FN unsigned __funnelshift_l(unsigned lo, unsigned hi, unsigned n) { return (unsigned)((((unsigned long long)hi << 32 | lo) << (n & 31)) >> 32); }
STANDIN_FN unsigned __funnelshift_r(unsigned lo, unsigned hi, unsigned n) { return (unsigned)(((unsigned long long)hi << 32 | lo) >> (n & 31)); }
STANDIN_FN unsigned __byte_perm(unsigned a, unsigned b, unsigned select) {
    unsigned long long all = (unsigned long long)b << 32 | a;
    unsigned r = 0;
    for (int i = 0; i < 4; ++i) r |= (unsigned)(all >> 8 * (select >> 4 * i & 7) & 0xFF) << 8 * i;
    return r;
}
STANDIN_FN int __dp4a(int a, int b, int c) {
    for (int i = 0; i < 4; ++i) c += (int)(signed char)(a >> 8 * i) * (int)(signed char)(b >> 8 * i);
    return c;
}

// ---- memory ----
template <class T> STANDIN_FN T __ldg(const T* p) { return *p; }
template <class T> STANDIN_FN T __ldcs(const T* p) { return *p; }
template <class T> STANDIN_FN T __ldcg(const T* p) { return *p; }
template <class T> STANDIN_FN T __ldca(const T* p) { return *p; }
template <class T> STANDIN_FN T __ldlu(const T* p) { return *p; }
template <class T> STANDIN_FN void __stcs(T* p, T v) { *p = v; }
template <class T> STANDIN_FN void __stcg(T* p, T v) { *p = v; }
template <class T> STANDIN_FN void __stwb(T* p, T v) { *p = v; }

template <class T, class F> STANDIN_FN T standin_atomic(T* p, F f) {
    if constexpr (sizeof(T) == 4) {
        unsigned old = 0;
        while (!standin_cas32((unsigned*)p, &old, standin_bits<unsigned>((T)f(standin_bits<T>(old))))) {}
        return standin_bits<T>(old);
    } else {
        unsigned long long old = 0;
        while (!standin_cas64((unsigned long long*)p, &old, standin_bits<unsigned long long>((T)f(standin_bits<T>(old))))) {}
        return standin_bits<T>(old);
    }
}
#define STANDIN_ATOMIC(name, T, expression) STANDIN_FN T name(T* p, T v) { return standin_atomic(p, [v](T old) -> T { return expression; }); }
#define STANDIN_ATOMICS(T)                                                                                 \
    STANDIN_ATOMIC(atomicAdd, T, old + v) STANDIN_ATOMIC(atomicMax, T, old > v ? old : v)                  \
    STANDIN_ATOMIC(atomicMin, T, old < v ? old : v) STANDIN_ATOMIC(atomicExch, T, v)                       \
    STANDIN_ATOMIC(atomicAnd, T, old & v) STANDIN_ATOMIC(atomicOr, T, old | v) STANDIN_ATOMIC(atomicXor, T, old ^ v) \
    STANDIN_FN T atomicCAS(T* p, T compare, T v) { return standin_atomic(p, [=](T old) -> T { return old == compare ? v : old; }); }
STANDIN_ATOMICS(int) STANDIN_ATOMICS(unsigned) STANDIN_ATOMICS(unsigned long long)
STANDIN_ATOMIC(atomicSub, int, old - v) STANDIN_ATOMIC(atomicSub, unsigned, old - v)
STANDIN_ATOMIC(atomicInc, unsigned, old >= v ? 0 : old + 1) STANDIN_ATOMIC(atomicDec, unsigned, old == 0 || old > v ? v : old - 1)
STANDIN_ATOMIC(atomicAdd, float, old + v) STANDIN_ATOMIC(atomicAdd, double, old + v) STANDIN_ATOMIC(atomicExch, float, v)
