// Stands in for cuBLASLt: one plain matrix product in f32, queued on the stream like a kernel. Column-major, f32, f16
// and bf16, transposes, batches, bias; what is not modelled answers CUBLAS_STATUS_NOT_SUPPORTED.
#include <cmath>
#include <cstdint>
#include <cstring>
#include <map>
#include <new>

#define EXPORT extern "C" __attribute__((visibility("default")))
extern "C" int cuLaunchHostFunc(void* stream, void (*function)(void*), void* data);
extern "C" bool standin_use_range(const char* call, uint64_t at, size_t bytes, bool write);

enum { SUCCESS = 0, INVALID_VALUE = 7, EXECUTION_FAILED = 13, NOT_SUPPORTED = 15 };   // cublasStatus_t
enum { R_32F = 0, R_16F = 2, R_16BF = 14 };                                           // cudaDataType
enum { TRANSA = 3, TRANSB = 4, TRANSC = 5, EPILOGUE = 7, BIAS_POINTER = 8 };          // cublasLtMatmulDescAttributes_t
enum { ORDER = 1, BATCH_COUNT = 5, BATCH_STRIDE = 6 };                                // cublasLtMatrixLayoutAttribute_t
enum { EPILOGUE_DEFAULT = 1, EPILOGUE_RELU = 2, EPILOGUE_BIAS = 4, EPILOGUE_GELU = 32 };

struct Layout { int type; uint64_t rows, cols; int64_t ld; int order = 0, batch = 1; int64_t stride = 0; };
struct Desc { int transa = 0, transb = 0, epilogue = EPILOGUE_DEFAULT; uint64_t bias = 0; bool unknown = false; };
struct Heuristic { uint64_t algo[8]; size_t workspace; int state; float waves; int reserved[4]; };

static size_t width(int type) { return type == R_32F ? 4 : 2; }

static float load(const Layout& l, uint64_t base, int64_t i) {
    if (l.type == R_32F) return ((const float*)base)[i];
    uint16_t bits = ((const uint16_t*)base)[i];
    if (l.type == R_16F) {
        int exponent = bits >> 10 & 31, fraction = bits & 1023;
        float magnitude = exponent == 31 ? (fraction ? NAN : INFINITY) : exponent ? std::ldexp(1024.0f + fraction, exponent - 25) : std::ldexp(float(fraction), -24);
        return bits >> 15 ? -magnitude : magnitude;
    }
    uint32_t wide = uint32_t(bits) << 16;
    float x;
    std::memcpy(&x, &wide, 4);
    return x;
}

static uint16_t narrow_f16(float x) {
    uint32_t u;
    std::memcpy(&u, &x, 4);
    uint32_t sign = u >> 16 & 0x8000, magnitude = u & 0x7FFFFFFF;
    if (x != x) return 0x7FFF;
    if (magnitude >= 0x477FF000) return uint16_t(sign | 0x7C00);
    if (magnitude < 0x38800000) return uint16_t(sign | uint32_t(std::rint(std::ldexp(std::fabs(x), 24))));
    return uint16_t(sign | ((magnitude - 0x38000000 + 0xFFF + (magnitude >> 13 & 1)) >> 13));
}

static void store(const Layout& l, uint64_t base, int64_t i, float x) {
    if (l.type == R_32F) { ((float*)base)[i] = x; return; }
    uint32_t u;
    std::memcpy(&u, &x, 4);
    ((uint16_t*)base)[i] = l.type == R_16F ? narrow_f16(x) : x != x ? 0x7FFF : uint16_t((u + 0x7FFF + (u >> 16 & 1)) >> 16);
}

struct Product {
    Desc desc;
    Layout a, b, c, d;
    uint64_t at_a, at_b, at_c, at_d;
    float alpha, beta;

    static size_t bytes(const Layout& l) { return ((l.batch - 1) * l.stride + (l.cols - 1) * l.ld + l.rows) * width(l.type); }

    bool ranges(bool run) const {
        return standin_use_range("cublasLtMatmul (A)", at_a, bytes(a), false) && standin_use_range("cublasLtMatmul (B)", at_b, bytes(b), false) &&
               (beta == 0 || standin_use_range("cublasLtMatmul (C)", at_c, bytes(c), false)) && standin_use_range("cublasLtMatmul (D)", at_d, bytes(d), run);
    }

    void run() const {
        if (!ranges(true)) return;
        int64_t inner = desc.transa ? a.rows : a.cols;
        for (int64_t batch = 0; batch < d.batch; ++batch)
            for (int64_t column = 0; column < int64_t(d.cols); ++column)
                for (int64_t row = 0; row < int64_t(d.rows); ++row) {
                    float sum = 0;
                    for (int64_t k = 0; k < inner; ++k)
                        sum = std::fma(load(a, at_a, batch * a.stride + (desc.transa ? k + row * a.ld : row + k * a.ld)),
                                       load(b, at_b, batch * b.stride + (desc.transb ? column + k * b.ld : k + column * b.ld)), sum);
                    sum *= alpha;
                    if (beta != 0) sum += beta * load(c, at_c, batch * c.stride + row + column * c.ld);
                    if (desc.epilogue & EPILOGUE_BIAS) sum += load(d, desc.bias, row);
                    if (desc.epilogue & EPILOGUE_RELU) sum = sum > 0 ? sum : 0;
                    if (desc.epilogue & EPILOGUE_GELU) sum = 0.5f * sum * (1 + std::tanh(0.7978845608f * (sum + 0.044715f * sum * sum * sum)));
                    store(d, at_d, batch * d.stride + row + column * d.ld, sum);
                }
    }
};

EXPORT int cublasLtCreate(void** handle) { return *handle = new int(0), SUCCESS; }
EXPORT int cublasLtDestroy(void* handle) { return delete (int*)handle, SUCCESS; }
EXPORT size_t cublasLtGetVersion() { return 120803; }
EXPORT int cublasLtLoggerSetLevel(int) { return SUCCESS; }
EXPORT int cublasLtMatrixLayoutCreate(Layout** out, int type, uint64_t rows, uint64_t cols, int64_t ld) {
    if (type != R_32F && type != R_16F && type != R_16BF) return NOT_SUPPORTED;
    *out = new Layout{type, rows, cols, ld};
    return SUCCESS;
}
EXPORT int cublasLtMatrixLayoutDestroy(Layout* l) { return delete l, SUCCESS; }
EXPORT int cublasLtMatrixLayoutSetAttribute(Layout* l, int attribute, const void* value, size_t size) {
    switch (attribute) {
    case ORDER: std::memcpy(&l->order, value, sizeof(int)); return l->order == 0 ? SUCCESS : NOT_SUPPORTED;
    case BATCH_COUNT: std::memcpy(&l->batch, value, sizeof(int)); return SUCCESS;
    case BATCH_STRIDE: std::memcpy(&l->stride, value, sizeof(int64_t)); return SUCCESS;
    default: return size ? NOT_SUPPORTED : INVALID_VALUE;
    }
}
EXPORT int cublasLtMatmulDescCreate(Desc** out, int, int) { return *out = new Desc, SUCCESS; }
EXPORT int cublasLtMatmulDescDestroy(Desc* d) { return delete d, SUCCESS; }
EXPORT int cublasLtMatmulDescSetAttribute(Desc* d, int attribute, const void* value, size_t) {
    int number = 0;
    if (attribute != BIAS_POINTER) std::memcpy(&number, value, sizeof number);
    switch (attribute) {
    case TRANSA: d->transa = number; return SUCCESS;
    case TRANSB: d->transb = number; return SUCCESS;
    case TRANSC: return number == 0 ? SUCCESS : NOT_SUPPORTED;
    case EPILOGUE: d->epilogue = number; return number <= 6 || (number & ~4) == 32 ? SUCCESS : NOT_SUPPORTED;
    case BIAS_POINTER: std::memcpy(&d->bias, value, sizeof d->bias); return SUCCESS;
    default: return NOT_SUPPORTED;
    }
}
EXPORT int cublasLtMatmulPreferenceCreate(void** out) { return *out = new int(0), SUCCESS; }
EXPORT int cublasLtMatmulPreferenceDestroy(void* p) { return delete (int*)p, SUCCESS; }
EXPORT int cublasLtMatmulPreferenceSetAttribute(void*, int, const void*, size_t) { return SUCCESS; }

EXPORT int cublasLtMatmulAlgoGetHeuristic(void*, Desc*, Layout*, Layout*, Layout*, Layout*, void*, int wanted, Heuristic* results, int* count) {
    if (wanted < 1) return INVALID_VALUE;
    results[0] = Heuristic{};
    *count = 1;
    return SUCCESS;
}

EXPORT int cublasLtMatmul(void*, Desc* desc, const void* alpha, const void* a, Layout* la, const void* b, Layout* lb, const void* beta, const void* c,
                          Layout* lc, void* d, Layout* ld, const void*, void*, size_t, void* stream) {
    auto* p = new Product{*desc, *la, *lb, *lc, *ld, (uint64_t)a, (uint64_t)b, (uint64_t)c, (uint64_t)d, *(const float*)alpha, *(const float*)beta};
    uint64_t m = desc->transa ? la->cols : la->rows, k = desc->transa ? la->rows : la->cols;
    uint64_t n = desc->transb ? lb->rows : lb->cols, k_of_b = desc->transb ? lb->cols : lb->rows;
    if (m != ld->rows || n != ld->cols || k != k_of_b || !p->ranges(false)) return delete p, INVALID_VALUE;
    // Never freed: a captured graph may run it any number of times.
    return cuLaunchHostFunc(stream, [](void* data) { ((Product*)data)->run(); }, p) == 0 ? SUCCESS : EXECUTION_FAILED;
}
