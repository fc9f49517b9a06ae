// Modules are shared objects that the stand-in's compiler made; functions, their attributes, and launches.
#include "driver.hpp"
#include <algorithm>
#include <cstring>
#include <dlfcn.h>
#include <elf.h>
#include <fstream>
#include <iterator>
#include <link.h>
#include <sys/mman.h>
#include <unistd.h>

struct Unit {                            // include/standin_kernel.h
    unsigned version, count, arch, full;
    const KernelEntry* entries;
    size_t dynamic_capacity;
    void* (*dynamic_base)();
};
static std::set<Module*> s_modules;

bool in_module_image(uintptr_t address, size_t bytes) {
    return std::any_of(s_modules.begin(), s_modules.end(), [=](Module* m) { return address >= m->image_lo && address + bytes <= m->image_hi; });
}

static int measure(dl_phdr_info* info, size_t, void* data) {
    auto* m = static_cast<Module*>(data);
    uintptr_t lo = UINTPTR_MAX, hi = 0;
    size_t tls = 0;
    for (int i = 0; i < info->dlpi_phnum; ++i) {
        const auto& p = info->dlpi_phdr[i];
        if (p.p_type == PT_LOAD) lo = std::min<uintptr_t>(lo, info->dlpi_addr + p.p_vaddr), hi = std::max<uintptr_t>(hi, info->dlpi_addr + p.p_vaddr + p.p_memsz);
        if (p.p_type == PT_TLS) tls = p.p_memsz;
    }
    if (m->image_lo < lo || m->image_lo >= hi) return 0;
    m->image_lo = lo, m->image_hi = hi, m->tls_modid = info->dlpi_tls_modid, m->tls_size = tls;
    return 1;
}

// The image carries no length: an ELF file ends with its section headers.
static size_t image_size(const void* image) {
    const auto* elf = static_cast<const Elf64_Ehdr*>(image);
    if (std::memcmp(elf->e_ident, ELFMAG, SELFMAG)) return 0;
    return elf->e_shoff + size_t(elf->e_shnum) * elf->e_shentsize;
}

// As on a card: sm_80 code runs on 8.x with x >= 0, code with a letter (1000 added) on its own card only, code for a
// virtual architecture (2000 added) on every later card.
static bool arch_runs(unsigned built) {
    unsigned card = settings().arch, plain = built % 1000;
    if (built >= 2000) return plain <= card;
    return built >= 1000 ? plain == card : plain / 10 == card / 10 && plain <= card;
}

static CUresult load(Module** out, const void* image, size_t size) {
    int fd = memfd_create("gristmill-standin-kernels", MFD_CLOEXEC);
    if (fd < 0 || write(fd, image, size) != (ssize_t)size) return CUDA_ERROR_OUT_OF_MEMORY;
    // The loader knows libraries by path: the descriptor stays open so that no other module gets its number.
    std::string path = "/proc/self/fd/" + std::to_string(fd);
    void* handle = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
    auto* unit = handle ? static_cast<const Unit*>(dlsym(handle, "standin_unit")) : nullptr;
    if (!unit || unit->version != 1) return say("the image is no kernel of the stand-in: %s", handle ? "no unit table" : dlerror()), close(fd), CUDA_ERROR_INVALID_IMAGE;
    if (bool(unit->full) != settings().full) {
        say("the image was compiled with GRISTMILL_STANDIN_CHECK=%s: a cache of cubins must be keyed by NVRTC's version", unit->full ? "full" : "fast");
        return dlclose(handle), close(fd), CUDA_ERROR_INVALID_IMAGE;
    }
    if (!arch_runs(unit->arch)) {
        say("a kernel built for %s%u%s does not run on sm_%d", unit->arch >= 2000 ? "compute_" : "sm_",
            unit->arch % 1000, unit->arch >= 1000 && unit->arch < 2000 ? "a" : "", settings().arch);
        return dlclose(handle), close(fd), CUDA_ERROR_NO_BINARY_FOR_GPU;
    }
    auto* m = new Module{handle, fd, (uintptr_t)unit, 0, 0, 0, unit->dynamic_capacity, unit->dynamic_base, {}};
    dl_iterate_phdr(measure, m);
    for (unsigned i = 0; i < unit->count; ++i) {
        auto f = std::make_unique<Function>();
        f->module = m, f->entry = &unit->entries[i];
        m->functions[f->entry->name] = std::move(f);
    }
    s_modules.insert(m);
    *out = m;
    return CUDA_SUCCESS;
}

EXPORT CUresult cuModuleLoadData(void** out, const void* image) {
    ENTER();
    if (CUresult e = forbid_in_capture("cuModuleLoadData")) return e;
    size_t size = image_size(image);
    if (!size) return say("cuModuleLoadData: the image is no ELF file"), CUDA_ERROR_INVALID_IMAGE;
    return load((Module**)out, image, size);
}
EXPORT CUresult cuModuleLoadDataEx(void** out, const void* image, unsigned, int*, void**) { return cuModuleLoadData(out, image); }
EXPORT CUresult cuModuleLoad(void** out, const char* path) {
    std::ifstream file(path, std::ios::binary);
    if (!file) return CUDA_ERROR_FILE_NOT_FOUND;
    std::string bytes((std::istreambuf_iterator<char>(file)), {});
    return bytes.size() < sizeof(Elf64_Ehdr) ? CUDA_ERROR_INVALID_IMAGE : cuModuleLoadData(out, bytes.data());
}

EXPORT CUresult cuModuleUnload(void* handle) {
    std::lock_guard<std::recursive_mutex> lock(g_lock);
    auto* m = static_cast<Module*>(handle);
    if (!s_modules.count(m)) return CUDA_ERROR_INVALID_HANDLE;
    if (!g_sticky) finish_all();
    s_modules.erase(m);
    dlclose(m->handle);
    close(m->fd);
    delete m;
    return g_sticky;
}

// Only names that the real driver would find: extern "C" kernels and lowered names.
EXPORT CUresult cuModuleGetFunction(void** out, void* handle, const char* name) {
    ENTER();
    auto* m = static_cast<Module*>(handle);
    if (!s_modules.count(m)) return CUDA_ERROR_INVALID_HANDLE;
    auto it = m->functions.find(name);
    if (it == m->functions.end() || (std::strncmp(name, "standin_lowered_", 16) && !dlsym(m->handle, name))) {
        say("no kernel named %s (extern \"C\" __global__) in the module", name);
        return CUDA_ERROR_NOT_FOUND;
    }
    *out = it->second.get();
    return CUDA_SUCCESS;
}

EXPORT CUresult cuModuleGetGlobal_v2(CUdeviceptr* at, size_t* bytes, void* handle, const char* name) {
    ENTER();
    auto* m = static_cast<Module*>(handle);
    if (!s_modules.count(m)) return CUDA_ERROR_INVALID_HANDLE;
    void* address = dlsym(m->handle, name);
    if (!address) return CUDA_ERROR_NOT_FOUND;
    Dl_info info;
    const Elf64_Sym* symbol = nullptr;
    dladdr1(address, &info, (void**)&symbol, RTLD_DL_SYMENT);
    if (at) *at = (CUdeviceptr)address;
    if (bytes) *bytes = symbol ? symbol->st_size : 0;
    return CUDA_SUCCESS;
}

static size_t static_shared(const Function& f) { return f.module->tls_size - std::min(f.module->tls_size, f.module->dynamic_capacity); }
static size_t shared_limit() {
    int bytes = 0;
    device_attribute(&bytes, 97);
    return bytes;
}

EXPORT CUresult cuFuncGetAttribute(int* value, int attribute, void* handle) {
    ENTER();
    auto& f = *static_cast<Function*>(handle);
    switch (attribute) {                                        // CUfunction_attribute in cuda.h
    case 0: *value = int(f.entry->max_threads); break;          // MAX_THREADS_PER_BLOCK
    case 1: *value = int(static_shared(f)); break;              // SHARED_SIZE_BYTES, of the whole unit
    case 4: *value = 32; break;                                 // NUM_REGS
    case 5: case 6: *value = settings().arch; break;            // PTX_VERSION, BINARY_VERSION
    case 8: *value = int(f.max_dynamic_shared); break;          // MAX_DYNAMIC_SHARED_SIZE_BYTES
    default: *value = 0; break;
    }
    return CUDA_SUCCESS;
}

EXPORT CUresult cuFuncSetAttribute(void* handle, int attribute, int value) {
    ENTER();
    auto& f = *static_cast<Function*>(handle);
    if (attribute == 8) {
        if (value < 0 || size_t(value) > shared_limit()) {
            say("kernel %s: %d bytes of dynamic shared memory, sm_%d has %zu", f.entry->name, value, settings().arch, shared_limit());
            return CUDA_ERROR_INVALID_VALUE;
        }
        f.max_dynamic_shared = value;
    }
    return CUDA_SUCCESS;
}
EXPORT CUresult cuFuncSetCacheConfig(void*, int) { return CUDA_SUCCESS; }

static int blocks_per_multiprocessor(const Function& f, int threads, size_t dynamic) {
    size_t shared = static_shared(f) + dynamic + 1024, all = shared_limit() + 1024;
    if (threads <= 0 || unsigned(threads) > f.entry->max_threads) return 0;
    return int(std::min<size_t>({32, size_t(2048 / ((threads + 31) / 32 * 32)), all / shared}));
}
EXPORT CUresult cuOccupancyMaxActiveBlocksPerMultiprocessor(int* blocks, void* f, int threads, size_t dynamic) {
    ENTER();
    return *blocks = blocks_per_multiprocessor(*(Function*)f, threads, dynamic), CUDA_SUCCESS;
}
EXPORT CUresult cuOccupancyMaxActiveBlocksPerMultiprocessorWithFlags(int* blocks, void* f, int threads, size_t dynamic, unsigned) {
    return cuOccupancyMaxActiveBlocksPerMultiprocessor(blocks, f, threads, dynamic);
}

static CUresult refuse(const Function& f, const std::string& why) {
    say("launch of %s: %s", f.entry->name, why.c_str());
    return CUDA_ERROR_INVALID_VALUE;
}

static CUresult launch(Function* f, Dim grid, Dim block, unsigned shared, void* stream_handle, void** params, void** extra, bool early) {
    ENTER_AS("cuLaunchKernel");
    Stream* stream = stream_of(stream_handle);
    if (!stream || !f) return CUDA_ERROR_INVALID_HANDLE;
    uint64_t threads = uint64_t(block.x) * block.y * block.z;
    if (!grid.x || !grid.y || !grid.z || !threads) return refuse(*f, "a dimension of the grid or block is zero");
    if (grid.x > 2147483647u || grid.y > 65535 || grid.z > 65535) return refuse(*f, "the grid is too large");
    if (threads > f->entry->max_threads || block.z > 64)
        return refuse(*f, std::to_string(threads) + " threads in a block, its launch bound is " + std::to_string(f->entry->max_threads));
    if (shared > f->max_dynamic_shared)
        return refuse(*f, std::to_string(shared) + " bytes of dynamic shared memory, allowed are " + std::to_string(f->max_dynamic_shared));
    if (static_shared(*f) + shared > shared_limit()) return refuse(*f, "static and dynamic shared memory exceed the card's");
    if (extra) return CUDA_ERROR_NOT_SUPPORTED;
    auto l = std::make_shared<Launch>();
    l->function = f, l->grid = grid, l->block = block, l->dynamic_shared = shared, l->early = early;
    for (unsigned i = 0; i < f->entry->count; ++i) {
        l->args.emplace_back((f->entry->sizes[i] + 63) / 64);
        std::memcpy(l->args.back().data(), params[i], f->entry->sizes[i]);
    }
    return submit(stream, f->entry->name, [l] { if (CUresult e = run_launch(*l)) g_sticky = e; });
}

EXPORT CUresult cuLaunchKernel(void* f, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by, unsigned bz,
                               unsigned shared, void* stream, void** params, void** extra) {
    return launch((Function*)f, {gx, gy, gz}, {bx, by, bz}, shared, stream, params, extra, false);
}

struct LaunchConfig {                    // CUlaunchConfig
    Dim grid, block;
    unsigned shared;
    void* stream;
    struct Attribute { int id; char pad[4]; union { char bytes[64]; unsigned cluster[3]; int allowed; } value; }* attributes;
    unsigned count;
};
EXPORT CUresult cuLaunchKernelEx(const LaunchConfig* c, void* f, void** params, void** extra) {
    bool early = false;
    for (unsigned i = 0; i < c->count; ++i) {                    // CUlaunchAttributeID in cuda.h
        const auto& value = c->attributes[i].value;
        switch (c->attributes[i].id) {
        case 4:                                                  // CLUSTER_DIMENSION
            if (value.cluster[0] * value.cluster[1] * value.cluster[2] > 1) return say("clusters of thread blocks are not modelled"), CUDA_ERROR_NOT_SUPPORTED;
            break;
        case 6:                                                  // PROGRAMMATIC_STREAM_SERIALIZATION
            early = value.allowed != 0;
            if (early && settings().arch < 90) return say("cuLaunchKernelEx: launches overlap from sm_90 on, this is sm_%d", settings().arch), CUDA_ERROR_NOT_SUPPORTED;
            break;
        default:
            return say("cuLaunchKernelEx: attribute %d is not modelled", c->attributes[i].id), CUDA_ERROR_NOT_SUPPORTED;
        }
    }
    return launch((Function*)f, c->grid, c->block, c->shared, c->stream, params, extra, early);
}

size_t report_module_leaks() {
    if (!s_modules.empty()) say("leak: %zu modules were never unloaded", s_modules.size());
    return s_modules.size();
}
