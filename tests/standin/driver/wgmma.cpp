// wgmma: products of operands in shared memory, one warp of a warpgroup at a time. They are computed when the warp waits
// for them; until then the accumulators hold NaN. Sums go in order of k, each rounded to f32, as the twin of mma does it.
#include "block.hpp"
#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

// `rows`: the warp's rows of A, if they came in registers. `transposed`: B lies with its columns contiguous.
struct Product {
    uint64_t a, b;
    unsigned group;
    bool keep, registers, transposed;
    uint16_t rows[16][16];
};
struct Accumulator {
    float* lanes[WARP];
    unsigned n;
    int type;                               // 0 bf16, 1 f16
    std::vector<float> sums;                // 16 x n: the warp's rows
    std::vector<Product> products;
};
struct WarpProducts {
    bool fenced = false;
    unsigned committed = 0, issued = 0;     // groups; products
    std::vector<Accumulator> accumulators;  // that have products under way
};

void begin_products(Worker& w) {
    if (!w.products) w.products = std::make_unique<WarpProducts[]>(MAX_WARPS);
    for (unsigned u = 0; u < MAX_WARPS; ++u) w.products[u] = WarpProducts();
}
bool products_pending(const Worker& w, unsigned warp) { return !w.products[warp].accumulators.empty(); }

void end_products(Worker& w) {
    unsigned warps = (w.threads + WARP - 1) / WARP;
    for (unsigned u = 0; u < warps; ++u) {
        const auto& mine = w.products[u];
        if (!mine.accumulators.empty()) return block_fault(w, "the block ends while a wgmma of warp " + std::to_string(u) + " is under way");
        if (mine.issued != w.products[u / 4 * 4].issued || (mine.issued && warps < u / 4 * 4 + 4))
            return block_fault(w, "warp " + std::to_string(u) + " ran " + std::to_string(mine.issued) + " wgmma, the first warp of its warpgroup " +
                                      std::to_string(w.products[u / 4 * 4].issued));
    }
}

// Where element (row, byte of 32) of an operand lies: rows of 128 bytes, eight rows after each other, swizzled by 128 bytes.
// Of a transposed one the rows are those of K, and 64 columns after each other.
struct Matrix {
    uintptr_t base, start, group, columns;
    Matrix(const Worker& w, uint64_t d, const char* which, int line) {
        base = w.shared_lo & ~uintptr_t(1023);
        start = (d & 0x3FFF) << 4;
        group = (d >> 32 & 0x3FFF) << 4;
        columns = (d >> 16 & 0x3FFF) << 4;
        if (d >> 62 != 1 || (d >> 49 & 7)) fault(CUDA_ERROR_LAUNCH_FAILED, "wgmma at line %d: %s is not swizzled by 128 bytes, or has a base offset", line, which);
        if (group != 1024) fault(CUDA_ERROR_LAUNCH_FAILED, "wgmma at line %d: groups of 8 rows of %s are %zu bytes apart, not 1024", line, which, size_t(group));
        if (start % 1024 >= 128) fault(CUDA_ERROR_LAUNCH_FAILED, "wgmma at line %d: %s does not begin at a multiple of 1024", line, which);
    }
    uintptr_t at(unsigned row, unsigned byte) const {
        uintptr_t offset = start + row / 8 * group + row % 8 * 128 + byte;
        return base + (offset ^ (offset >> 7 & 7) << 4);
    }
    // Where 8 columns of 16 bits lie, the first a multiple of 8.
    uintptr_t at_transposed(unsigned k, unsigned column) const {
        uintptr_t offset = start + column / 64 * columns + k / 8 * group + k % 8 * 128 + column % 64 * 2;
        return base + (offset ^ (offset >> 7 & 7) << 4);
    }
};

static inline __attribute__((always_inline)) float widen_16(uint16_t x, int type) {
    uint32_t bits;
    if (type == 0) {
        bits = uint32_t(x) << 16;
    } else {
        int exponent = x >> 10 & 31, fraction = x & 1023;
        if (exponent == 0) return (x >> 15 ? -1.0f : 1.0f) * float(fraction) * 0x1p-24f;
        bits = uint32_t(x >> 15) << 31 | uint32_t(exponent == 31 ? 255 : exponent + 112) << 23 | uint32_t(fraction) << 13;
    }
    float value;
    std::memcpy(&value, &bits, 4);
    return value;
}

// e4m3: a bias of 7, no infinities, NaN only where all bits but the sign are set.
static inline __attribute__((always_inline)) float widen_8(uint8_t x) {
    int exponent = x >> 3 & 15, fraction = x & 7;
    if ((x & 127) == 127) return std::numeric_limits<float>::quiet_NaN();
    float magnitude = exponent == 0 ? float(fraction) * 0x1p-9f : std::ldexp(float(8 + fraction), exponent - 10);
    return x >> 7 ? -magnitude : magnitude;
}

// Elements of 32 bytes.
static unsigned depth(int type) { return type == 2 ? 32 : 16; }

static inline __attribute__((always_inline)) void multiply_rows(float* sums, const float (*a)[32], const float (*b)[256], unsigned n, unsigned deep) {
    for (unsigned r = 0; r < 16; ++r)
        for (unsigned k = 0; k < deep; ++k)
            for (unsigned c = 0; c < n; ++c) sums[r * n + c] = __builtin_fmaf(a[r][k], b[k][c], sums[r * n + c]);
}
#if defined(__x86_64__)
__attribute__((target("avx2,fma"), optimize("O3"))) static void multiply_fast(float* sums, const float (*a)[32], const float (*b)[256], unsigned n, unsigned deep) {
    multiply_rows(sums, a, b, n, deep);
}
#endif
static void multiply(float* sums, const float (*a)[32], const float (*b)[256], unsigned n, unsigned deep) {
#if defined(__x86_64__)
    static const bool fast = __builtin_cpu_supports("fma") && __builtin_cpu_supports("avx2");
    if (fast) return multiply_fast(sums, a, b, n, deep);
#endif
    multiply_rows(sums, a, b, n, deep);
}

static float load_element(uintptr_t row_of_32, unsigned k, int type) {
    if (type == 2) return widen_8(*(const uint8_t*)(row_of_32 + k));
    uint16_t x;
    std::memcpy(&x, (const void*)(row_of_32 + 2 * k), 2);
    return widen_16(x, type);
}

static void compute(Worker& w, Accumulator& acc, const Product& p, unsigned warp) {
    Matrix mb(w, p.b, "B", 0);
    float a[16][32], b[32][256];
    const unsigned deep = depth(acc.type), half = deep / 2;
    // 16 bytes lie together.
    if (p.registers) {
        for (unsigned r = 0; r < 16; ++r)
            for (unsigned k = 0; k < deep; ++k) a[r][k] = widen_16(p.rows[r][k], acc.type);
    } else {
        Matrix ma(w, p.a, "A", 0);
        for (unsigned r = 0; r < 16; ++r)
            for (unsigned k = 0; k < deep; ++k) a[r][k] = load_element(ma.at(warp % 4 * 16 + r, k / half * 16), k % half, acc.type);
    }
    for (unsigned c = 0; c < acc.n; ++c)
        for (unsigned k = 0; k < deep; ++k)
            b[k][c] = p.transposed ? load_element(mb.at_transposed(k, c / 8 * 8), c % 8, acc.type) : load_element(mb.at(c, k / half * 16), k % half, acc.type);
    if (!p.keep) std::fill(acc.sums.begin(), acc.sums.end(), 0.0f);
    multiply(acc.sums.data(), a, b, acc.n, deep);
}

struct Issue {
    float* d;
    uint64_t a, b;
    unsigned n;
    int type, keep, line;
    bool registers, transposed;
    unsigned rows[4];
};

// A lane holds of its warp's 16 rows of A rows l / 4 and l / 4 + 8, of K l % 4 * 2 and the next, and those 8 further.
static void gather_rows(Product& p, const Issue* lanes) {
    for (unsigned l = 0; l < WARP; ++l)
        for (unsigned i = 0; i < 8; ++i) p.rows[l / 4 + i / 2 % 2 * 8][l % 4 * 2 + i % 2 + i / 4 * 8] = uint16_t(lanes[l].rows[i / 2] >> i % 2 * 16);
}

// Lane l holds of each 8 columns rows l / 4 and l / 4 + 8, columns l % 4 * 2 and the next.
static float& element(Accumulator& acc, unsigned lane, unsigned i) {
    return acc.sums[(lane / 4 + i / 2 % 2 * 8) * acc.n + i / 4 * 8 + lane % 4 * 2 + i % 2];
}

static void check_reads(Worker& w, const Issue& i, unsigned warp, unsigned group) {
    const Knowledge know = known_to_all(w, warp);
    const uint32_t clock = w.first_clock + group;
    auto check = [&](uintptr_t at) { check_wgmma_read(w, at, 16, know, warp, clock, i.line); };
    const Matrix mb(w, i.b, "B", i.line);
    for (unsigned half = 0; half < 32; half += 16) {
        for (unsigned r = 0; r < 16 && !i.registers; ++r) check(Matrix(w, i.a, "A", i.line).at(warp % 4 * 16 + r, half));
        for (unsigned c = 0; c < i.n && !i.transposed; ++c) check(mb.at(c, half));
    }
    for (unsigned k = 0; k < 16 && i.transposed; ++k)
        for (unsigned c = 0; c < i.n; c += 8) check(mb.at_transposed(k, c));
}

static void issue(void* all) {
    Worker& w = *t_worker;
    const Issue* lanes = (const Issue*)all;
    const Issue& first = lanes[0];
    unsigned warp = w.current->id / WARP;
    WarpProducts& p = w.products[warp];
    for (unsigned l = 1; l < WARP; ++l)
        if (lanes[l].a != first.a || lanes[l].b != first.b || lanes[l].keep != first.keep)
            fault(CUDA_ERROR_LAUNCH_FAILED, "wgmma at line %d: lanes 0 and %u have other operands", first.line, l);
    if (!p.fenced) fault(CUDA_ERROR_LAUNCH_FAILED, "wgmma at line %d: a wgmma.fence before it is missing", first.line);
    Matrix mb(w, first.b, "B", first.line);
    if (first.transposed && mb.start % 1024) fault(CUDA_ERROR_LAUNCH_FAILED, "wgmma at line %d: the transposed B does not begin at a multiple of 1024", first.line);
    unsigned group = p.committed + 1;
    if (settings().full) check_reads(w, first, warp, group);
    if (!first.registers) Matrix(w, first.a, "A", first.line);
    auto acc = std::find_if(p.accumulators.begin(), p.accumulators.end(), [&](const Accumulator& a) { return a.lanes[0] == first.d; });
    if (acc == p.accumulators.end()) {
        p.accumulators.emplace_back();
        acc = p.accumulators.end() - 1;
        acc->n = first.n, acc->type = first.type, acc->sums.resize(16 * first.n);
        for (unsigned l = 0; l < WARP; ++l) {
            acc->lanes[l] = lanes[l].d;
            for (unsigned i = 0; i < first.n / 2; ++i) {
                element(*acc, l, i) = lanes[l].d[i];
                lanes[l].d[i] = std::numeric_limits<float>::quiet_NaN();
            }
        }
    }
    if (acc->n != first.n || acc->type != first.type) fault(CUDA_ERROR_LAUNCH_FAILED, "wgmma at line %d: its accumulators are in use in another shape", first.line);
    acc->products.push_back({first.a, first.b, group, first.keep != 0, first.registers, first.transposed, {}});
    if (first.registers) gather_rows(acc->products.back(), lanes);
    ++p.issued;
}

EXPORT void standin_wgmma(float* d, unsigned n, int type, unsigned long long a, unsigned long long b, int keep, int line) {
    if (n % 8 || n < 8 || n > 256) fault(CUDA_ERROR_LAUNCH_FAILED, "wgmma at line %d: n is %u", line, n);
    Issue mine{d, a, b, n, type, keep, line, false, false, {}};
    standin_collective("wgmma", 0xFFFFFFFFu, &mine, sizeof mine, line, issue);
}

EXPORT void standin_wgmma_registers(float* d, unsigned n, int type, const unsigned* a, unsigned long long b, int transposed, int keep, int line) {
    if (n % 8 || n < 8 || n > 256 || type > 1) fault(CUDA_ERROR_LAUNCH_FAILED, "wgmma at line %d: n is %u, the type %d", line, n, type);
    Issue mine{d, 0, b, n, type, keep, line, true, transposed != 0, {a[0], a[1], a[2], a[3]}};
    standin_collective("wgmma", 0xFFFFFFFFu, &mine, sizeof mine, line, issue);
}

static void fence_products(void*) { t_worker->products[t_worker->current->id / WARP].fenced = true; }
EXPORT void standin_wgmma_fence(int line) {
    char none = 0;
    standin_collective("wgmma.fence", 0xFFFFFFFFu, &none, 1, line, fence_products);
}

static void commit(void*) { ++t_worker->products[t_worker->current->id / WARP].committed; }
EXPORT void standin_wgmma_commit(int line) {
    char none = 0;
    standin_collective("wgmma.commit_group", 0xFFFFFFFFu, &none, 1, line, commit);
}

static void wait_for(void* all) {
    Worker& w = *t_worker;
    unsigned left, warp = w.current->id / WARP;
    std::memcpy(&left, all, sizeof left);
    WarpProducts& p = w.products[warp];
    unsigned done = p.committed - std::min(left, p.committed);
    for (auto& acc : p.accumulators) {
        while (!acc.products.empty() && acc.products[0].group <= done) {
            compute(w, acc, acc.products[0], warp);
            acc.products.erase(acc.products.begin());
        }
        for (unsigned l = 0; l < WARP && acc.products.empty(); ++l)
            for (unsigned i = 0; i < acc.n / 2; ++i) acc.lanes[l][i] = element(acc, l, i);
    }
    auto over = std::remove_if(p.accumulators.begin(), p.accumulators.end(), [](const Accumulator& a) { return a.products.empty(); });
    if (over != p.accumulators.end()) p.fenced = false;        // registers may be touched now
    p.accumulators.erase(over, p.accumulators.end());
    if (!settings().full) return;
    uint32_t clock = w.first_clock + done;
    w.last_clock = std::max(w.last_clock, clock);
    for (unsigned l = 0; l < WARP; ++l) {
        auto& know = w.fibers[warp * WARP + l].know;
        know.seen[wgmma_agent(w, warp)] = std::max(know.seen[wgmma_agent(w, warp)], clock);
    }
}
EXPORT void standin_wgmma_wait(unsigned left, int line) {
    standin_collective("wgmma.wait_group", 0xFFFFFFFFu, &left, sizeof left, line, wait_for);
}
