// Device memory: each allocation ends at a guard page, lies between red zones, and starts out poisoned.
// Addresses are never used twice, so a pointer that outlives its allocation faults for good.
#include "driver.hpp"
#include <cstdlib>
#include <cstring>
#include <sys/mman.h>

uintptr_t g_arena_lo = 0, g_arena_size = 0;
unsigned char* g_shadow = nullptr;
uint64_t *g_written = nullptr, *g_read = nullptr;

static constexpr size_t PAGE = 4096, ALIGN = 256, ARENA = size_t(1) << 38;
static constexpr uint16_t POISON = 0x7FBF;
static std::map<uintptr_t, Allocation> s_allocations;
static std::map<uintptr_t, size_t> s_pinned;
static uintptr_t s_next = 0;
static size_t s_used = 0;
static uint64_t s_serial = 0;

static size_t round_up(size_t n, size_t to) { return (n + to - 1) / to * to; }

void poison(void* at, size_t bytes) {
    auto* p = static_cast<unsigned char*>(at);
    for (size_t i = 0; i < bytes && i < 4096; ++i) p[i] = (uintptr_t(p + i) & 1) ? POISON >> 8 : POISON & 0xFF;
    for (size_t done = 4096; done < bytes; done *= 2) std::memcpy(p + done, p, std::min(done, bytes - done));
}

static bool poisoned(uintptr_t lo, uintptr_t hi) {
    for (uintptr_t a = lo; a < hi; ++a)
        if (*(unsigned char*)a != ((a & 1) ? POISON >> 8 : POISON & 0xFF)) return false;
    return true;
}

static void* reserve(size_t bytes, int protection) {
    void* p = mmap(nullptr, bytes, protection, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    return p == MAP_FAILED ? nullptr : p;
}

static bool open_arena() {
    if (g_arena_lo) return true;
    g_arena_lo = (uintptr_t)reserve(ARENA, PROT_NONE);
    if (!g_arena_lo) return false;
    g_arena_size = ARENA;
    s_next = g_arena_lo + PAGE;
    if (!settings().full) return true;
    g_shadow = (unsigned char*)reserve(ARENA, PROT_READ | PROT_WRITE);
    g_written = (uint64_t*)reserve(ARENA * 4, PROT_READ | PROT_WRITE);
    g_read = (uint64_t*)reserve(ARENA * 4, PROT_READ | PROT_WRITE);
    return g_shadow && g_written && g_read;
}

static CUresult allocate(CUdeviceptr* out, size_t bytes) {
    if (!out || bytes == 0) return CUDA_ERROR_INVALID_VALUE;
    if (!open_arena()) return CUDA_ERROR_OUT_OF_MEMORY;
    size_t span = round_up(bytes, ALIGN), pages = round_up(span, PAGE);
    if (s_used + span > settings().memory || s_next + pages + PAGE > g_arena_lo + ARENA) return CUDA_ERROR_OUT_OF_MEMORY;
    uintptr_t first = s_next, base = first + pages - span;
    if (mprotect((void*)first, pages, PROT_READ | PROT_WRITE)) return CUDA_ERROR_OUT_OF_MEMORY;
    poison((void*)first, pages);
    if (g_shadow) std::memset(g_shadow + (base - g_arena_lo), UNINITIALISED, bytes);
    s_next = first + pages + PAGE;
    s_used += span;
    s_allocations[base] = Allocation{base, bytes, ++s_serial, false};
    *out = base;
    return CUDA_SUCCESS;
}

static CUresult release(CUdeviceptr at) {
    auto it = s_allocations.find(at);
    if (it == s_allocations.end() || it->second.freed) {
        say("free of %s", describe_address(at).c_str());
        return CUDA_ERROR_INVALID_VALUE;
    }
    Allocation& a = it->second;
    size_t span = round_up(a.size, ALIGN), pages = round_up(span, PAGE);
    uintptr_t first = a.base + span - pages;
    a.freed = true;
    s_used -= span;
    if (g_shadow) {
        uintptr_t lo = round_up(a.base - g_arena_lo, PAGE), hi = (a.base + a.size - g_arena_lo) / PAGE * PAGE;
        std::memset(g_shadow + (a.base - g_arena_lo), UNALLOCATED, a.size);
        if (hi > lo) {
            madvise(g_shadow + lo, hi - lo, MADV_DONTNEED);
            madvise((char*)g_written + lo * 4, (hi - lo) * 4, MADV_DONTNEED);
            madvise((char*)g_read + lo * 4, (hi - lo) * 4, MADV_DONTNEED);
        }
    }
    // A new mapping over the old one gives the pages back and makes every later access fault.
    mmap((void*)first, pages, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0);
    return CUDA_SUCCESS;
}

const Allocation* find_allocation(uintptr_t address) {
    auto it = s_allocations.upper_bound(address);
    return it == s_allocations.begin() ? nullptr : &std::prev(it)->second;
}

std::string describe_address(uintptr_t address) {
    char text[256];
    const Allocation* a = find_allocation(address);
    auto above = s_allocations.upper_bound(address);
    if (a && address < a->base + a->size) {
        std::snprintf(text, sizeof text, "0x%zx, byte %zu of %s allocation #%llu of %zu bytes", size_t(address),
                      size_t(address - a->base), a->freed ? "the freed" : "the", (unsigned long long)a->serial, a->size);
    } else if (above != s_allocations.end() && above->first - address <= PAGE &&
               (!a || address - (a->base + a->size) > above->first - address)) {
        std::snprintf(text, sizeof text, "0x%zx, %zu bytes before allocation #%llu of %zu bytes", size_t(address),
                      size_t(above->first - address), (unsigned long long)above->second.serial, above->second.size);
    } else if (a && address - (a->base + a->size) < (size_t(1) << 32)) {
        std::snprintf(text, sizeof text, "0x%zx, %zu bytes after the end of %s allocation #%llu of %zu bytes", size_t(address),
                      size_t(address - (a->base + a->size)), a->freed ? "the freed" : "the", (unsigned long long)a->serial, a->size);
    } else {
        std::snprintf(text, sizeof text, "0x%zx, which is no device memory", size_t(address));
    }
    return text;
}

CUresult check_range(const char* call, CUdeviceptr at, size_t bytes) {
    const Allocation* a = find_allocation(at);
    if (a && !a->freed && at + bytes <= a->base + a->size) return CUDA_SUCCESS;
    if (in_module_image(at, bytes)) return CUDA_SUCCESS;
    say("%s of %zu bytes at %s", call, bytes, describe_address(at).c_str());
    return CUDA_ERROR_INVALID_VALUE;
}

void mark_initialised(CUdeviceptr at, size_t bytes) {
    if (g_shadow && at - g_arena_lo < g_arena_size) std::memset(g_shadow + (at - g_arena_lo), INITIALISED, bytes);
}

void copy_initialised(CUdeviceptr to, CUdeviceptr from, size_t bytes) {
    if (!g_shadow || to - g_arena_lo >= g_arena_size) return;
    if (from - g_arena_lo >= g_arena_size) return mark_initialised(to, bytes);
    std::memmove(g_shadow + (to - g_arena_lo), g_shadow + (from - g_arena_lo), bytes);
}

bool is_pinned(uintptr_t address, size_t bytes) {
    auto it = s_pinned.upper_bound(address);
    return it != s_pinned.begin() && address + bytes <= std::prev(it)->first + std::prev(it)->second;
}

// Where accesses are not checked one by one, a write past an end shows here after the launch.
bool red_zones_intact(const char* after) {
    for (auto& [base, a] : s_allocations) {
        if (a.freed) continue;
        uintptr_t end = base + round_up(a.size, ALIGN), first = end - round_up(end - base, PAGE);
        bool before = poisoned(first, base), behind = poisoned(base + a.size, end);
        if (before && behind) continue;
        say("kernel %s wrote outside allocation #%llu of %zu bytes: the red zone %s it has changed "
            "(GRISTMILL_STANDIN_CHECK=full names the thread)", after, (unsigned long long)a.serial, a.size, before ? "behind" : "before");
        return false;
    }
    return true;
}

size_t report_memory_leaks() {
    size_t leaks = 0;
    for (auto& [base, a] : s_allocations)
        if (!a.freed) ++leaks, say("leak: device allocation #%llu of %zu bytes was never freed", (unsigned long long)a.serial, a.size);
    for (auto& [base, size] : s_pinned) ++leaks, say("leak: %zu bytes of pinned host memory were never freed", size);
    return leaks;
}

EXPORT CUresult cuMemGetInfo_v2(size_t* free_bytes, size_t* total) {
    ENTER();
    if (CUresult e = forbid_in_capture("cuMemGetInfo")) return e;
    *total = settings().memory;
    *free_bytes = settings().memory - s_used;
    return CUDA_SUCCESS;
}

// Of cuMemAlloc here; 2 MiB on a card.
EXPORT CUresult cuMemGetAllocationGranularity(size_t* bytes, const void*, int) {
    ENTER();
    return *bytes = ALIGN, CUDA_SUCCESS;
}

EXPORT CUresult cuMemAlloc_v2(CUdeviceptr* out, size_t bytes) {
    ENTER();
    if (CUresult e = forbid_in_capture("cuMemAlloc")) return e;
    return allocate(out, bytes);
}

EXPORT CUresult cuMemFree_v2(CUdeviceptr at) {
    ENTER();
    if (at == 0) return CUDA_SUCCESS;
    if (CUresult e = forbid_in_capture("cuMemFree")) return e;
    finish_all();
    if (g_sticky) return g_sticky;
    return release(at);
}

EXPORT CUresult cuMemAllocAsync(CUdeviceptr* out, size_t bytes, void* handle) {
    ENTER();
    Stream* stream = stream_of(handle);
    if (!stream) return CUDA_ERROR_INVALID_HANDLE;
    if (CUresult e = refuse_while_capturing(stream, "cuMemAllocAsync (allocation nodes are not modelled)")) return e;
    return allocate(out, bytes);
}

EXPORT CUresult cuMemFreeAsync(CUdeviceptr at, void* handle) {
    ENTER();
    Stream* stream = stream_of(handle);
    if (!stream) return CUDA_ERROR_INVALID_HANDLE;
    if (CUresult e = refuse_while_capturing(stream, "cuMemFreeAsync (free nodes are not modelled)")) return e;
    if (CUresult e = check_range("cuMemFreeAsync", at, 1)) return e;
    return submit(stream, "free", [at] { if (CUresult e = release(at)) g_sticky = e; });
}

EXPORT CUresult cuMemHostAlloc(void** out, size_t bytes, unsigned) {
    ENTER();
    if (CUresult e = forbid_in_capture("cuMemHostAlloc")) return e;
    if (!out || bytes == 0) return CUDA_ERROR_INVALID_VALUE;
    void* p = std::aligned_alloc(PAGE, round_up(bytes, PAGE));
    if (!p) return CUDA_ERROR_OUT_OF_MEMORY;
    poison(p, round_up(bytes, PAGE));
    s_pinned[(uintptr_t)p] = bytes;
    *out = p;
    return CUDA_SUCCESS;
}

EXPORT CUresult cuMemAllocHost_v2(void** out, size_t bytes) { return cuMemHostAlloc(out, bytes, 0); }

EXPORT CUresult cuMemFreeHost(void* p) {
    ENTER();
    if (CUresult e = forbid_in_capture("cuMemFreeHost")) return e;
    finish_all();
    if (!s_pinned.erase((uintptr_t)p)) return CUDA_ERROR_INVALID_VALUE;
    std::free(p);
    return CUDA_SUCCESS;
}

EXPORT CUresult cuMemHostRegister_v2(void* p, size_t bytes, unsigned) {
    ENTER();
    if (!p || is_pinned((uintptr_t)p)) return CUDA_ERROR_INVALID_VALUE;
    s_pinned[(uintptr_t)p] = bytes;
    return CUDA_SUCCESS;
}
EXPORT CUresult cuMemHostUnregister(void* p) {
    ENTER();
    finish_all();
    return s_pinned.erase((uintptr_t)p) ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
}

// One pool per device, with nothing to tune.
EXPORT CUresult cuDeviceGetDefaultMemPool(void** pool, int) { return *pool = &s_serial, CUDA_SUCCESS; }
EXPORT CUresult cuDeviceGetMemPool(void** pool, int) { return *pool = &s_serial, CUDA_SUCCESS; }
EXPORT CUresult cuMemPoolSetAttribute(void*, int, void*) { return CUDA_SUCCESS; }
EXPORT CUresult cuMemPoolTrimTo(void*, size_t) { return CUDA_SUCCESS; }

EXPORT CUresult cuMemHostGetDevicePointer_v2(CUdeviceptr* out, void* p, unsigned) {
    ENTER();
    if (!is_pinned((uintptr_t)p)) return CUDA_ERROR_INVALID_VALUE;
    *out = (CUdeviceptr)p;
    return CUDA_SUCCESS;
}

// For the stand-in of cuBLASLt: checks a range that it is about to use, and notes a write.
EXPORT bool standin_use_range(const char* call, CUdeviceptr at, size_t bytes, bool write) {
    if (check_range(call, at, bytes)) return false;
    if (write) mark_initialised(at, bytes);
    return true;
}
