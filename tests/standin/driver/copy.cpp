// Copies and fills. As on a card: an asynchronous copy from pageable memory has read its source when the call
// returns, one to pageable memory has finished, and one from or to pinned memory happens when the stream gets there.
#include "driver.hpp"
#include <cstring>

static CUresult host_to_device(Stream* stream, CUdeviceptr to, const void* from, size_t bytes) {
    if (CUresult e = check_range("copy to the device", to, bytes)) return e;
    if (stream->capture || is_pinned((uintptr_t)from, bytes))
        return submit(stream, "copy to the device", [=] { std::memcpy((void*)to, from, bytes), mark_initialised(to, bytes); });
    auto staged = std::make_shared<std::vector<unsigned char>>((const unsigned char*)from, (const unsigned char*)from + bytes);
    return submit(stream, "copy to the device", [=] { std::memcpy((void*)to, staged->data(), bytes), mark_initialised(to, bytes); });
}

static CUresult device_to_host(Stream* stream, void* to, CUdeviceptr from, size_t bytes) {
    if (CUresult e = check_range("copy from the device", from, bytes)) return e;
    CUresult e = submit(stream, "copy from the device", [=] { std::memcpy(to, (void*)from, bytes); });
    if (e || stream->capture || is_pinned((uintptr_t)to, bytes)) return e;
    finish(stream);
    return g_sticky;
}

static CUresult device_to_device(Stream* stream, CUdeviceptr to, CUdeviceptr from, size_t bytes) {
    if (CUresult e = check_range("copy within the device (source)", from, bytes)) return e;
    if (CUresult e = check_range("copy within the device (destination)", to, bytes)) return e;
    return submit(stream, "copy within the device", [=] { std::memmove((void*)to, (void*)from, bytes), copy_initialised(to, from, bytes); });
}

template <class T> static CUresult fill(Stream* stream, CUdeviceptr at, T value, size_t count) {
    if (at % sizeof(T)) return CUDA_ERROR_INVALID_VALUE;
    if (CUresult e = check_range("memset", at, count * sizeof(T))) return e;
    return submit(stream, "memset", [=] {
        for (size_t i = 0; i < count; ++i) ((T*)at)[i] = value;
        mark_initialised(at, count * sizeof(T));
    });
}

// A synchronous call works on the legacy stream, which waits for blocking streams only.
template <class F> static CUresult now(const char* call, F queue) {
    ENTER();
    if (CUresult e = forbid_in_capture(call)) return e;
    Stream* stream = stream_of(nullptr);
    if (CUresult e = queue(stream)) return e;
    finish(stream);
    return g_sticky;
}
template <class F> static CUresult later(void* handle, size_t bytes, F queue) {
    ENTER();
    Stream* stream = stream_of(handle);
    if (!stream) return CUDA_ERROR_INVALID_HANDLE;
    return bytes ? queue(stream) : CUDA_SUCCESS;
}

struct Copy2D {                          // CUDA_MEMCPY2D; memory types: 1 host, 2 device
    size_t from_x, from_y; int from_type; const void* from_host; CUdeviceptr from_device; void* from_array; size_t from_pitch;
    size_t to_x, to_y; int to_type; void* to_host; CUdeviceptr to_device; void* to_array; size_t to_pitch;
    size_t width, height;
};
// Rows from the host to places apart; other ways are not modelled.
EXPORT CUresult cuMemcpy2DAsync_v2(const Copy2D* c, void* h) {
    if (c->from_type != 1 || c->to_type != 2 || c->from_x || c->from_y || c->to_x || c->to_y) return CUDA_ERROR_NOT_SUPPORTED;
    if (c->width > c->from_pitch || c->width > c->to_pitch) return CUDA_ERROR_INVALID_VALUE;
    return later(h, c->width * c->height, [=](Stream* s) -> CUresult {
        for (size_t row = 0; row < c->height; ++row)
            if (CUresult e = host_to_device(s, c->to_device + row * c->to_pitch, (const char*)c->from_host + row * c->from_pitch, c->width)) return e;
        return CUDA_SUCCESS;
    });
}

EXPORT CUresult cuMemcpyHtoD_v2(CUdeviceptr to, const void* from, size_t n) { return now("cuMemcpyHtoD", [=](Stream* s) { return host_to_device(s, to, from, n); }); }
EXPORT CUresult cuMemcpyDtoH_v2(void* to, CUdeviceptr from, size_t n) { return now("cuMemcpyDtoH", [=](Stream* s) { return device_to_host(s, to, from, n); }); }
EXPORT CUresult cuMemcpyDtoD_v2(CUdeviceptr to, CUdeviceptr from, size_t n) { return now("cuMemcpyDtoD", [=](Stream* s) { return device_to_device(s, to, from, n); }); }
EXPORT CUresult cuMemcpyHtoDAsync_v2(CUdeviceptr to, const void* from, size_t n, void* h) { return later(h, n, [=](Stream* s) { return host_to_device(s, to, from, n); }); }
EXPORT CUresult cuMemcpyDtoHAsync_v2(void* to, CUdeviceptr from, size_t n, void* h) { return later(h, n, [=](Stream* s) { return device_to_host(s, to, from, n); }); }
EXPORT CUresult cuMemcpyDtoDAsync_v2(CUdeviceptr to, CUdeviceptr from, size_t n, void* h) { return later(h, n, [=](Stream* s) { return device_to_device(s, to, from, n); }); }
EXPORT CUresult cuMemcpyPeerAsync(CUdeviceptr to, void*, CUdeviceptr from, void*, size_t n, void* h) { return cuMemcpyDtoDAsync_v2(to, from, n, h); }
EXPORT CUresult cuMemsetD8_v2(CUdeviceptr at, unsigned char v, size_t n) { return now("cuMemsetD8", [=](Stream* s) { return fill(s, at, v, n); }); }
EXPORT CUresult cuMemsetD32_v2(CUdeviceptr at, unsigned v, size_t n) { return now("cuMemsetD32", [=](Stream* s) { return fill(s, at, v, n); }); }
EXPORT CUresult cuMemsetD8Async(CUdeviceptr at, unsigned char v, size_t n, void* h) { return later(h, n, [=](Stream* s) { return fill(s, at, v, n); }); }
EXPORT CUresult cuMemsetD16Async(CUdeviceptr at, unsigned short v, size_t n, void* h) { return later(h, n, [=](Stream* s) { return fill(s, at, v, n); }); }
EXPORT CUresult cuMemsetD32Async(CUdeviceptr at, unsigned v, size_t n, void* h) { return later(h, n, [=](Stream* s) { return fill(s, at, v, n); }); }
