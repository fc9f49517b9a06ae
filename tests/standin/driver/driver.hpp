// What the parts of the stand-in driver share: error codes, settings, device memory, kernels, blocks and streams.
#pragma once
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <random>
#include <set>
#include <string>
#include <thread>
#include <vector>

using CUresult = int;
using CUdeviceptr = unsigned long long;

// The numbers of the CUDA driver API (cuda.h, enum cudaError_enum).
enum : CUresult {
    CUDA_SUCCESS = 0, CUDA_ERROR_INVALID_VALUE = 1, CUDA_ERROR_OUT_OF_MEMORY = 2, CUDA_ERROR_NOT_INITIALIZED = 3,
    CUDA_ERROR_INVALID_DEVICE = 101, CUDA_ERROR_INVALID_IMAGE = 200, CUDA_ERROR_INVALID_CONTEXT = 201,
    CUDA_ERROR_NO_BINARY_FOR_GPU = 209, CUDA_ERROR_FILE_NOT_FOUND = 301, CUDA_ERROR_INVALID_HANDLE = 400,
    CUDA_ERROR_NOT_FOUND = 500, CUDA_ERROR_NOT_READY = 600, CUDA_ERROR_ILLEGAL_ADDRESS = 700,
    CUDA_ERROR_ASSERT = 710, CUDA_ERROR_MISALIGNED_ADDRESS = 716, CUDA_ERROR_LAUNCH_FAILED = 719,
    CUDA_ERROR_NOT_PERMITTED = 800, CUDA_ERROR_NOT_SUPPORTED = 801, CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED = 900,
    CUDA_ERROR_STREAM_CAPTURE_INVALIDATED = 901, CUDA_ERROR_STREAM_CAPTURE_MERGE = 902,
    CUDA_ERROR_STREAM_CAPTURE_UNMATCHED = 903, CUDA_ERROR_STREAM_CAPTURE_UNJOINED = 904,
    CUDA_ERROR_STREAM_CAPTURE_ISOLATION = 905, CUDA_ERROR_STREAM_CAPTURE_IMPLICIT = 906,
    CUDA_ERROR_CAPTURED_EVENT = 907, CUDA_ERROR_STREAM_CAPTURE_WRONG_THREAD = 908,
};

#define EXPORT extern "C" __attribute__((visibility("default")))

// ---- settings (settings.cpp): read from the environment once ----
struct Settings {
    bool full;             // GRISTMILL_STANDIN_CHECK=full: every access of a kernel is checked
    bool eager;            // GRISTMILL_STANDIN_SCHEDULE=eager: work runs when it is queued
    bool seeded;           // GRISTMILL_STANDIN_SCHEDULE=<number>: streams interleave by this seed
    uint64_t seed;
    size_t memory;         // GRISTMILL_STANDIN_MEMORY: bytes of device memory
    int arch;              // GRISTMILL_STANDIN_ARCH: 80, 89, 90, ...
    unsigned threads;      // GRISTMILL_STANDIN_THREADS: host threads that run blocks
    bool abort_on_leak;    // GRISTMILL_STANDIN_LEAKS=report: say so only; default: abort the process
    std::string failing;   // GRISTMILL_STANDIN_FAIL=<call>@<n>:<error>: that call's n-th time gives the error
    long fails_at;
    CUresult fails_with;
};
const Settings& settings();

// One line on stderr: "gristmill-standin: ...".
void say(const char* format, ...) __attribute__((format(printf, 1, 2)));

// ---- the device's state, guarded by one lock (context.cpp) ----
extern std::recursive_mutex g_lock;
extern CUresult g_sticky;                // an error of a kernel stays until the process ends, as on a card
extern thread_local bool t_in_host_func; // inside cuLaunchHostFunc's callback no API call is allowed
CUresult device_attribute(int* value, int attribute);   // CUdevice_attribute of the one device
CUresult enter(const char* call);        // sticky error, missing context, planted failure
#define ENTER() ENTER_AS(__func__)
#define ENTER_AS(call)                                     \
    if (t_in_host_func) return CUDA_ERROR_NOT_PERMITTED;   \
    std::lock_guard<std::recursive_mutex> lock_(g_lock);   \
    if (CUresult e_ = enter(call)) return e_

// ---- device memory (memory.cpp) ----
struct Allocation { uintptr_t base; size_t size; uint64_t serial; bool freed; };
constexpr unsigned char UNALLOCATED = 0, UNINITIALISED = 1, INITIALISED = 2;  // shadow of one byte (full check)
extern uintptr_t g_arena_lo, g_arena_size;
extern unsigned char* g_shadow;         // one byte for each byte of the arena; null when checking fast
extern uint64_t *g_written, *g_read;    // for each two bytes the last write and read (access.cpp)
const Allocation* find_allocation(uintptr_t address);   // the one that holds it or lies nearest below
std::string describe_address(uintptr_t address);
CUresult check_range(const char* call, CUdeviceptr at, size_t bytes);
void mark_initialised(CUdeviceptr at, size_t bytes);
void copy_initialised(CUdeviceptr to, CUdeviceptr from, size_t bytes);
bool is_pinned(uintptr_t address, size_t bytes = 1);
bool red_zones_intact(const char* after);
size_t report_memory_leaks();
void poison(void* at, size_t bytes);    // a signalling NaN in f32 and bf16, a NaN in f16, a huge index

// ---- kernels (module.cpp) ----
struct KernelEntry {                     // as the compiled unit declares it: include/standin_kernel.h
    const char* name;
    void (*call)(void** args);
    const size_t* sizes;
    unsigned count;
    unsigned max_threads;
};
struct Module;
struct Function {
    Module* module;
    const KernelEntry* entry;
    unsigned max_dynamic_shared = 48 * 1024;
};
struct Module {
    void* handle;
    int fd;                              // of the image
    uintptr_t image_lo, image_hi;        // code, constants and __device__ variables
    size_t tls_modid, tls_size;          // __shared__ variables are the unit's thread-local segment
    size_t dynamic_capacity;             // bytes at the segment's dynamic shared array, 0 if none
    void* (*dynamic_base)();
    std::map<std::string, std::unique_ptr<Function>> functions;
};
struct Dim { unsigned x, y, z; };
struct Launch {
    Function* function;
    Dim grid, block;
    unsigned dynamic_shared;
    bool early = false;                      // programmatic stream serialization: it waits itself for the kernels before it
    struct alignas(64) Line { unsigned char bytes[64]; };
    std::vector<std::vector<Line>> args;     // each as aligned as a parameter may want to be
};
bool in_module_image(uintptr_t address, size_t bytes);   // __device__ and __constant__ variables
CUresult run_launch(Launch& launch);     // runs every block; the error it met (block.cpp)

// ---- streams (stream.cpp) ----
struct Stream;
struct Marker { bool done = false; Stream* stream = nullptr; double at = 0; };
struct Op { std::function<void()> run; std::shared_ptr<Marker> wait, signal; };
struct Capture;
struct Stream {
    uint64_t id = 0;                     // in order of creation
    unsigned flags = 0;
    bool legacy = false;
    std::deque<Op> queue;
    std::shared_ptr<Capture> capture;
    std::vector<size_t> tail;            // while capturing: nodes that the next node depends on
};
struct Event {
    std::shared_ptr<Marker> marker;
    std::shared_ptr<Capture> capture;    // recorded inside a capture
    std::vector<size_t> nodes;
};
struct Node { std::string what; std::function<void()> run; std::vector<size_t> deps; };
struct Graph { std::vector<Node> nodes; };
struct Capture { Graph graph; int mode; Stream* origin; std::set<Stream*> members; bool invalid = false; std::thread::id thread; };

Stream* stream_of(void* handle);         // null for a handle that is no stream
CUresult submit(Stream* stream, const char* what, std::function<void()> run);
void finish(Stream* stream);             // runs all that the stream holds
void finish_all();
bool step_towards(const std::shared_ptr<Marker>& marker);  // one op; true once the marker is done
void force(const std::shared_ptr<Marker>& marker);
CUresult forbid_in_capture(const char* call);              // for calls that no capture allows
CUresult refuse_while_capturing(Stream* stream, const char* call);
std::mt19937_64& schedule_rng();
size_t report_handle_leaks();
size_t report_module_leaks();
