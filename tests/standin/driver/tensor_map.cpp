// Tensor maps: what a bulk copy is told of a matrix in device memory. The 128 bytes are opaque on a card; here they are
// this struct.
#include "driver.hpp"
#include <cstring>

struct TensorMap {
    uint64_t magic;                      // no other bytes are taken for a map
    uint64_t address;
    uint64_t dims[2];                    // elements: columns, rows
    uint64_t stride;                     // bytes from row to row
    uint32_t box[2];
    uint32_t element;                    // bytes
    uint32_t swizzle;                    // CUtensorMapSwizzle
    uint64_t unused[9];
};
static_assert(sizeof(TensorMap) == 128);
constexpr uint64_t TENSOR_MAP = 0x70616d726f736e65;

static CUresult refuse_map(const char* why) {
    say("cuTensorMapEncodeTiled: %s", why);
    return CUDA_ERROR_INVALID_VALUE;
}

// The rules are those of the driver API's page on cuTensorMapEncodeTiled; what kernels here do not use is refused.
EXPORT CUresult cuTensorMapEncodeTiled(void* out, int type, unsigned rank, void* address, const uint64_t* dims, const uint64_t* strides,
                                       const unsigned* box, const unsigned* steps, int interleave, int swizzle, int, int fill) {
    ENTER();
    static const unsigned sizes[] = {1, 2, 4, 4, 8, 8, 2, 4, 8, 2};     // CUtensorMapDataType: UINT8 .. BFLOAT16
    if (!out || (uintptr_t)out % 64) return refuse_map("the map is not at a multiple of 64 bytes");
    if (type < 0 || type > 9) return refuse_map("a type that is not modelled");
    if (rank != 2 || interleave || fill) return refuse_map("only matrices without interleaving, filled with zeros, are modelled");
    unsigned element = sizes[type];
    if ((uintptr_t)address % 16) return refuse_map("the address is no multiple of 16");
    if (strides[0] % 16 || strides[0] >= uint64_t(1) << 40) return refuse_map("the stride is no multiple of 16, or too large");
    for (int i = 0; i < 2; ++i) {
        if (!dims[i] || dims[i] > uint64_t(1) << 32) return refuse_map("a dimension is zero or too large");
        if (!box[i] || box[i] > 256) return refuse_map("a side of the box is zero or more than 256");
        if (steps[i] != 1) return refuse_map("steps between elements are not modelled");
    }
    unsigned inner = box[0] * element, widest[] = {256 * 8, 32, 64, 128};
    if (swizzle < 0 || swizzle > 3) return refuse_map("a swizzle that is not modelled");
    if (inner % 16 || inner > widest[swizzle]) return refuse_map("a row of the box is no multiple of 16 bytes, or longer than the swizzle");
    if (CUresult e = check_range("cuTensorMapEncodeTiled", (CUdeviceptr)address, (dims[1] - 1) * strides[0] + dims[0] * element)) return e;
    TensorMap map{TENSOR_MAP, (uint64_t)address, {dims[0], dims[1]}, strides[0], {box[0], box[1]}, element, unsigned(swizzle), {}};
    std::memcpy(out, &map, sizeof map);
    return CUDA_SUCCESS;
}
