// One block of threads, run by one host thread: each thread of the block is a fiber.
#pragma once
#include "driver.hpp"
#include <atomic>
#include <memory>
#if !defined(__x86_64__) || defined(STANDIN_UCONTEXT)
#include <ucontext.h>
#endif

#if defined(__x86_64__) && !defined(STANDIN_UCONTEXT)
struct Context { void* sp = nullptr; };
#else
struct Context { ucontext_t context; };
#endif

enum class State : unsigned char { READY, AT_WARP, AT_BLOCK, AT_NAMED, AT_PHASE, DONE };

struct CopyGroup { struct Copy { uintptr_t to, from; unsigned bytes, read; }; std::vector<Copy> copies; };

// What happened before a point of a thread, or what a barrier passes on: for each agent (order.cpp) its clock there. An
// access of the agent at that clock or earlier came before.
struct Knowledge {
    std::vector<uint32_t> seen;
    std::vector<uint32_t> fenced;           // the same, of writes that the asynchronous proxy sees: fence.proxy.async
};

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
    bool waited = false;                    // griddepcontrol.wait
    unsigned barrier = 0, barrier_threads = 0;      // a named barrier
    uintptr_t mbarrier = 0;
    unsigned parity = 0;
    Knowledge know;
    uint32_t clock = 0;                     // of its accesses; grows when it passes on what it knows
    // cp.async
    CopyGroup open_group;
    std::deque<CopyGroup> groups;
};

// What is known of one byte of shared memory. Clocks below the block's first one are of earlier blocks.
enum class Pending : unsigned char { NO, CP_ASYNC, BULK };  // the target of a copy that nobody waited for
struct Cell {
    uint32_t write_clock = 0;               // 0: never
    uint16_t writer = 0;                    // an agent
    uint16_t copier = 0;                    // the thread that started the pending copy
    Pending pending = Pending::NO;
    bool atomic_write = false, mbarrier = false;
};
// The last reads of one byte by one warp.
struct Reads { uint32_t clock = 0; uint16_t lane = 0; bool many = false; };

struct MBarrier {                           // async.cpp
    uintptr_t at = 0;
    unsigned count = 0, waiting = 0;        // arrivals of a phase, and those that are missing
    long bytes = 0;                         // that were announced and have not come
    uint32_t phase = 0;
    unsigned index = 0, maker = 0;          // the place in the list; the thread that initialised it, at this clock
    uint32_t made = 0;
    Knowledge arrived, done;                // of this phase; of the one before
};
struct TensorMap;
struct BulkCopy { uintptr_t to, from_map, mbarrier; unsigned char map[128]; int at[2]; unsigned thread; };
struct WarpProducts;                        // wgmma.cpp

constexpr unsigned SERIALS = (1u << 17) - 1;   // of launches: 1 to SERIALS, then 1 again; 0 means never
constexpr size_t STACK = 128 << 10, GUARD = 4096;      // of a fiber
constexpr unsigned WARP = 32, MAX_THREADS = 1024, RINGS = 64, RING_BYTES = 32 * 64,
                   MAX_WARPS = MAX_THREADS / WARP, MAX_MBARRIERS = 64;

struct Worker {
    ~Worker();
    Context scheduler;
    Fiber fibers[MAX_THREADS];
    Fiber* current = nullptr;
    unsigned threads = 0;
    Dim block_index{};
    Launch* launch = nullptr;
    unsigned launch_serial = 0, block_serial = 0;
    unsigned last_whole = 0;                // the serial of the last launch that began after all before it were done
    bool did_atomic = false;                // this block, on device memory
    void** args = nullptr;
    uintptr_t own_lo = 0, own_size = 0;     // stacks and rings: memory that is no business of the checks
    unsigned char* rings = nullptr;         // results of warp collectives
    unsigned next_ring = 0;
    uintptr_t shared_lo = 0, shared_size = 0;       // the unit's thread-local segment
    uintptr_t dynamic_lo = 0, dynamic_hi = 0, dynamic_end = 0;   // this launch may use [lo, hi) of [lo, end)
    std::vector<Cell> cells;
    std::vector<Reads> reads;               // for each byte and warp
    std::vector<uint32_t> wgmma_reads;      // for each 16 bytes and warp: the clock of the last wgmma group that reads them
    uint32_t first_clock = 1, last_clock = 1;       // of this block; of all blocks so far
    uint32_t epoch = 0, first_epoch = 0;    // barriers of the block, over all blocks
    // the asynchronous proxy
    std::vector<MBarrier> mbarriers;
    std::deque<BulkCopy> copies;            // that have not landed
    std::unique_ptr<WarpProducts[]> products;
    struct Maxnreg { int line; unsigned registers; };
    std::vector<Maxnreg> maxnreg[MAX_WARPS];
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
// ---- access.cpp: single accesses ----
void check_access(uintptr_t address, unsigned bytes, bool write, bool atomic);
void check_device_copy(Worker& w, uintptr_t address, unsigned bytes, const char* what, int line);
void begin_shared_checks(Worker& w);
// An access through the asynchronous proxy: a copy by the current thread, a wgmma group (at `clock`) of a warp.
void check_bulk_write(Worker& w, uintptr_t address, unsigned bytes, int line);
void check_wgmma_read(Worker& w, uintptr_t address, unsigned bytes, const Knowledge& know, unsigned warp, uint32_t clock, int line);
// ---- order.cpp: what happened before what ----
void begin_order(Worker& w);
unsigned wgmma_agent(const Worker& w, unsigned warp);
unsigned phase_agent(const Worker& w, const MBarrier& b);
uint32_t next_clock(Worker& w, uint32_t clock);
void learn(Knowledge& to, const Knowledge& from);
void pass_on(Worker& w, Fiber& f, Knowledge& to);        // all that f knows and did so far
void meet(Worker& w, const std::vector<Fiber*>& all);    // a barrier: each learns what all know and did
void fence_proxy(Worker& w, Fiber& f);
Knowledge known_to_all(Worker& w, unsigned warp);
std::string name_agent(const Worker& w, unsigned agent);
// ---- async.cpp, wgmma.cpp ----
void begin_async(Worker& w);
bool wake(Worker& w);                                    // threads whose phase or named barrier is complete
bool land_one(Worker& w, std::mt19937_64* order);        // one bulk copy
void end_async(Worker& w);                               // what a block must not leave behind
void begin_products(Worker& w);
bool products_pending(const Worker& w, unsigned warp);
void end_products(Worker& w);
