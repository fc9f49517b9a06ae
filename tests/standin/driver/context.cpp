// Driver start, the one device, its primary context, and error names.
#include "driver.hpp"
#include <cstdlib>
#include <cstring>

std::recursive_mutex g_lock;
CUresult g_sticky = CUDA_SUCCESS;
thread_local bool t_in_host_func = false;

static bool s_initialised = false;
static unsigned s_retained = 0;
static int s_context;                           // its address is the handle
static thread_local void* t_current = nullptr;

CUresult enter(const char* call) {
    if (!s_initialised) return CUDA_ERROR_NOT_INITIALIZED;
    if (!t_current || !s_retained) return CUDA_ERROR_INVALID_CONTEXT;
    static long times = 0;
    if (!settings().failing.empty() && settings().failing == call && ++times == settings().fails_at) {
        say("%s fails on purpose, time %ld", call, times);
        return settings().fails_with;
    }
    return g_sticky;
}

EXPORT CUresult cuInit(unsigned) {
    s_initialised = true;
    return CUDA_SUCCESS;
}
EXPORT CUresult cuDriverGetVersion(int* version) { return *version = 12080, CUDA_SUCCESS; }
EXPORT CUresult cuDeviceGetCount(int* count) { return *count = 1, s_initialised ? CUDA_SUCCESS : CUDA_ERROR_NOT_INITIALIZED; }
EXPORT CUresult cuDeviceGet(int* device, int ordinal) {
    if (!s_initialised) return CUDA_ERROR_NOT_INITIALIZED;
    return *device = ordinal, ordinal == 0 ? CUDA_SUCCESS : CUDA_ERROR_INVALID_DEVICE;
}
EXPORT CUresult cuDeviceGetName(char* name, int length, int device) {
    std::snprintf(name, length, "gristmill stand-in (sm_%d)", settings().arch);
    return device == 0 ? CUDA_SUCCESS : CUDA_ERROR_INVALID_DEVICE;
}
EXPORT CUresult cuDeviceGetUuid_v2(unsigned char* uuid, int) {
    std::memcpy(uuid, "gristmill-standi", 16);
    return CUDA_SUCCESS;
}
EXPORT CUresult cuDeviceGetUuid(unsigned char* uuid, int device) { return cuDeviceGetUuid_v2(uuid, device); }
EXPORT CUresult cuDeviceTotalMem_v2(size_t* bytes, int) { return *bytes = settings().memory, CUDA_SUCCESS; }

CUresult device_attribute(int* value, int attribute) {
    int arch = settings().arch, optin = arch == 80 ? 163 : arch == 90 || arch == 100 ? 227 : 99;
    switch (attribute) {  // CUdevice_attribute in cuda.h
    case 1: *value = 1024; break;                  // MAX_THREADS_PER_BLOCK
    case 2: case 3: *value = 1024; break;          // MAX_BLOCK_DIM_X, _Y
    case 4: *value = 64; break;                    // MAX_BLOCK_DIM_Z
    case 5: *value = 2147483647; break;            // MAX_GRID_DIM_X
    case 6: case 7: *value = 65535; break;         // MAX_GRID_DIM_Y, _Z
    case 8: *value = 48 * 1024; break;             // MAX_SHARED_MEMORY_PER_BLOCK
    case 9: *value = 64 * 1024; break;             // TOTAL_CONSTANT_MEMORY
    case 10: *value = 32; break;                   // WARP_SIZE
    case 12: case 82: *value = 65536; break;       // MAX_REGISTERS_PER_BLOCK, _PER_MULTIPROCESSOR
    case 13: *value = 1410000; break;              // CLOCK_RATE, kHz
    case 16: *value = 4; break;                    // MULTIPROCESSOR_COUNT: few, so that persistent grids wrap around
    case 36: *value = 1215000; break;              // MEMORY_CLOCK_RATE, kHz
    case 37: *value = 5120; break;                 // GLOBAL_MEMORY_BUS_WIDTH
    case 38: *value = 40 << 20; break;             // L2_CACHE_SIZE
    case 39: *value = 2048; break;                 // MAX_THREADS_PER_MULTIPROCESSOR
    case 31: case 40: case 41: *value = 1; break;  // CONCURRENT_KERNELS, ASYNC_ENGINE_COUNT, UNIFIED_ADDRESSING
    case 75: *value = arch / 10; break;            // COMPUTE_CAPABILITY_MAJOR
    case 76: *value = arch % 10; break;            // COMPUTE_CAPABILITY_MINOR
    case 81: *value = (optin + 1) * 1024; break;   // MAX_SHARED_MEMORY_PER_MULTIPROCESSOR
    case 95: *value = 1; break;                    // COOPERATIVE_LAUNCH
    case 97: *value = optin * 1024; break;         // MAX_SHARED_MEMORY_PER_BLOCK_OPTIN
    case 106: *value = 32; break;                  // MAX_BLOCKS_PER_MULTIPROCESSOR
    case 111: *value = 1024; break;                // RESERVED_SHARED_MEMORY_PER_BLOCK
    case 115: *value = 1; break;                   // MEMORY_POOLS_SUPPORTED
    default: *value = 0; break;
    }
    return CUDA_SUCCESS;
}
EXPORT CUresult cuDeviceGetAttribute(int* value, int attribute, int device) {
    return device == 0 ? device_attribute(value, attribute) : CUDA_ERROR_INVALID_DEVICE;
}

EXPORT CUresult cuDevicePrimaryCtxRetain(void** context, int device) {
    std::lock_guard<std::recursive_mutex> lock(g_lock);
    if (device != 0) return CUDA_ERROR_INVALID_DEVICE;
    ++s_retained;
    *context = &s_context;
    return CUDA_SUCCESS;
}

// The last release ends the context: whatever it still holds has leaked.
EXPORT CUresult cuDevicePrimaryCtxRelease_v2(int) {
    std::lock_guard<std::recursive_mutex> lock(g_lock);
    if (!s_retained) return CUDA_ERROR_INVALID_CONTEXT;
    if (--s_retained || g_sticky) return CUDA_SUCCESS;
    finish_all();
    size_t leaks = report_memory_leaks() + report_handle_leaks() + report_module_leaks();
    if (leaks && settings().abort_on_leak) {
        say("%zu leaks at the end of the context", leaks);
        std::abort();
    }
    return CUDA_SUCCESS;
}

EXPORT CUresult cuCtxGetCurrent(void** context) { return *context = t_current, CUDA_SUCCESS; }
EXPORT CUresult cuCtxSetCurrent(void* context) { return t_current = context, CUDA_SUCCESS; }
EXPORT CUresult cuCtxGetDevice(int* device) { return *device = 0, t_current ? CUDA_SUCCESS : CUDA_ERROR_INVALID_CONTEXT; }
EXPORT CUresult cuCtxSetFlags(unsigned) { return CUDA_SUCCESS; }
EXPORT CUresult cuCtxGetLimit(size_t* value, int) { return *value = 1024, CUDA_SUCCESS; }
EXPORT CUresult cuCtxSetLimit(int, size_t) { return CUDA_SUCCESS; }
EXPORT CUresult cuCtxGetCacheConfig(int* config) { return *config = 0, CUDA_SUCCESS; }
EXPORT CUresult cuCtxSetCacheConfig(int) { return CUDA_SUCCESS; }
EXPORT CUresult cuCtxGetStreamPriorityRange(int* least, int* greatest) { return *least = 0, *greatest = -5, CUDA_SUCCESS; }
EXPORT CUresult cuCtxSynchronize() {
    ENTER();
    if (CUresult e = forbid_in_capture("cuCtxSynchronize")) return e;
    finish_all();
    return g_sticky;
}
EXPORT CUresult cuProfilerStart() { return CUDA_SUCCESS; }
EXPORT CUresult cuProfilerStop() { return CUDA_SUCCESS; }

static const std::map<CUresult, const char*>& names() {
    static const std::map<CUresult, const char*> map = {
        {0, "CUDA_SUCCESS"}, {1, "CUDA_ERROR_INVALID_VALUE"}, {2, "CUDA_ERROR_OUT_OF_MEMORY"},
        {3, "CUDA_ERROR_NOT_INITIALIZED"}, {101, "CUDA_ERROR_INVALID_DEVICE"}, {200, "CUDA_ERROR_INVALID_IMAGE"},
        {201, "CUDA_ERROR_INVALID_CONTEXT"}, {209, "CUDA_ERROR_NO_BINARY_FOR_GPU"}, {301, "CUDA_ERROR_FILE_NOT_FOUND"},
        {400, "CUDA_ERROR_INVALID_HANDLE"}, {500, "CUDA_ERROR_NOT_FOUND"}, {600, "CUDA_ERROR_NOT_READY"},
        {700, "CUDA_ERROR_ILLEGAL_ADDRESS"}, {710, "CUDA_ERROR_ASSERT"}, {716, "CUDA_ERROR_MISALIGNED_ADDRESS"},
        {719, "CUDA_ERROR_LAUNCH_FAILED"}, {800, "CUDA_ERROR_NOT_PERMITTED"}, {801, "CUDA_ERROR_NOT_SUPPORTED"},
        {900, "CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED"}, {901, "CUDA_ERROR_STREAM_CAPTURE_INVALIDATED"},
        {902, "CUDA_ERROR_STREAM_CAPTURE_MERGE"}, {903, "CUDA_ERROR_STREAM_CAPTURE_UNMATCHED"},
        {904, "CUDA_ERROR_STREAM_CAPTURE_UNJOINED"}, {905, "CUDA_ERROR_STREAM_CAPTURE_ISOLATION"},
        {906, "CUDA_ERROR_STREAM_CAPTURE_IMPLICIT"}, {907, "CUDA_ERROR_CAPTURED_EVENT"},
        {908, "CUDA_ERROR_STREAM_CAPTURE_WRONG_THREAD"}};
    return map;
}
EXPORT CUresult cuGetErrorName(CUresult error, const char** name) {
    auto it = names().find(error);
    *name = it == names().end() ? nullptr : it->second;
    return *name ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
}
EXPORT CUresult cuGetErrorString(CUresult error, const char** text) { return cuGetErrorName(error, text); }
