// One block of threads, run by one host thread: each thread of the block is a fiber.
#pragma once
#include "driver.hpp"
#include <atomic>
#if !defined(__x86_64__) || defined(STANDIN_UCONTEXT)
#include <ucontext.h>
#endif

#if defined(__x86_64__) && !defined(STANDIN_UCONTEXT)
struct Context { void* sp = nullptr; };
#else
struct Context { ucontext_t context; };
#endif

enum class State : unsigned char { READY, AT_WARP, AT_BLOCK, DONE };

struct CopyGroup { struct Copy { uintptr_t to, from; unsigned bytes, read; }; std::vector<Copy> copies; };

struct Fiber {
    Context context;
    uintptr_t stack_lo = 0;
    State state = State::DONE;
    Dim index{};
    unsigned id = 0;                        // linear index in the block
    // what it waits for
    unsigned mask = 0;
    int site = 0;                           // source line of the collective
    const char* kind = "";
    const void* deposit = nullptr;
    unsigned bytes = 0;
    const unsigned char* gathered = nullptr;
    int predicate = 0;
    // cp.async
    CopyGroup open_group;
    std::deque<CopyGroup> groups;
};

// What is known of one byte of shared memory. Epochs count barriers of the block, over all blocks of this worker.
struct Cell {
    uint32_t written = 0, read = 0;         // epoch of the last write and read; 0 never
    uint32_t write_warp_epoch = 0, read_warp_epoch = 0;
    uint16_t writer = 0, reader = 0;
    bool pending = false;                   // the target of a cp.async that nobody waited for
    bool many_readers = false, many_warps = false;  // of this epoch, beyond `reader`
    bool atomic_write = false;
};

constexpr size_t STACK = 128 << 10, GUARD = 4096;      // of a fiber
constexpr unsigned WARP = 32, MAX_THREADS = 1024, RINGS = 64, RING_BYTES = 32 * 64;

struct Worker {
    ~Worker();
    Context scheduler;
    Fiber fibers[MAX_THREADS];
    Fiber* current = nullptr;
    unsigned threads = 0;
    Dim block_index{};
    Launch* launch = nullptr;
    unsigned launch_serial = 0, block_serial = 0;
    bool did_atomic = false;                // this block, on device memory
    void** args = nullptr;
    uintptr_t own_lo = 0, own_size = 0;     // stacks and rings: memory that is no business of the checks
    unsigned char* rings = nullptr;         // results of warp collectives
    unsigned next_ring = 0;
    uintptr_t shared_lo = 0, shared_size = 0;       // the unit's thread-local segment
    uintptr_t dynamic_lo = 0, dynamic_hi = 0, dynamic_end = 0;   // this launch may use [lo, hi) of [lo, end)
    std::vector<Cell> cells;
    uint32_t epoch = 0, first_epoch = 0;    // of this block
    uint32_t warp_epoch[MAX_THREADS / WARP] = {};
    int reduced = 0;                        // threads whose predicate held at the last barrier
    bool faulted = false;
};
extern thread_local Worker* t_worker __attribute__((tls_model("initial-exec")));

extern std::atomic<CUresult> g_fault;       // of the launch that runs: the first one found

void switch_context(Context& from, Context& to);
void start_context(Context& context, uintptr_t stack_lo, size_t bytes, void (*entry)());
void yield_to_scheduler(Worker& w);
bool together_at(const Fiber& a, const Fiber& b);        // the same warp collective
void run_block(Worker& w, Dim index, std::mt19937_64* order);
// The scheduler itself found the fault: same report, and the block ends.
void block_fault(Worker& w, const std::string& what);
// Ends the block with an error of the kernel, naming block and thread; does not return on a fiber.
[[noreturn]] void fault(CUresult code, const char* format, ...) __attribute__((format(printf, 2, 3)));
std::string name_thread(const Worker& w, unsigned id);
void check_access(uintptr_t address, unsigned bytes, bool write, bool atomic);   // access.cpp
void begin_shared_checks(Worker& w);
