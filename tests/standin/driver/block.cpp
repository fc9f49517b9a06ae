// Running the blocks of a launch: warps in turn, lanes until each waits at a barrier or a warp collective or is done.
#include "block.hpp"
#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <csignal>
#include <cstdarg>
#include <cstring>
#include <link.h>
#include <sys/mman.h>

thread_local Worker* t_worker __attribute__((tls_model("initial-exec"))) = nullptr;
void start_context(Context& context, uintptr_t stack_lo, size_t bytes, void (*entry)());

static constexpr size_t STACK = 128 << 10, GUARD = 4096;
static std::mutex s_fault_lock;
static std::atomic<CUresult> s_fault{CUDA_SUCCESS};      // of the launch that runs

std::string name_thread(const Worker& w, unsigned id) {
    const Dim& t = w.fibers[id].index;
    char text[96];
    std::snprintf(text, sizeof text, "thread (%u, %u, %u)", t.x, t.y, t.z);
    return text;
}

[[noreturn]] void fault(CUresult code, const char* format, ...) {
    Worker& w = *t_worker;
    char what[1024];
    va_list args;
    va_start(args, format);
    std::vsnprintf(what, sizeof what, format, args);
    va_end(args);
    {
        std::lock_guard<std::mutex> lock(s_fault_lock);
        if (!s_fault) {
            std::string thread = w.current ? ", " + name_thread(w, w.current->id) : "";
            say("kernel %s, block (%u, %u, %u)%s: %s", w.launch->function->entry->name, w.block_index.x, w.block_index.y,
                w.block_index.z, thread.c_str(), what);
            s_fault = code;
        }
    }
    w.faulted = true;
    Context abandoned;
    switch_context(abandoned, w.scheduler);
    __builtin_unreachable();
}

// The scheduler itself found the fault: same report, and the block ends.
static void block_fault(Worker& w, const std::string& what) {
    std::lock_guard<std::mutex> lock(s_fault_lock);
    w.faulted = true;
    if (s_fault) return;
    say("kernel %s, block (%u, %u, %u), %s", w.launch->function->entry->name, w.block_index.x, w.block_index.y,
        w.block_index.z, what.c_str());
    s_fault = CUDA_ERROR_LAUNCH_FAILED;
}

static void fiber_main() {
    Worker& w = *t_worker;
    w.launch->function->entry->call(w.args);
    w.current->state = State::DONE;
    switch_context(w.current->context, w.scheduler);
    __builtin_unreachable();
}

static void yield_to_scheduler(Worker& w) { switch_context(w.current->context, w.scheduler); }

static void resume(Worker& w, Fiber& f) {
    w.current = &f;
    switch_context(w.scheduler, f.context);
    w.current = nullptr;
}

// ---- what kernels call (include/cuda_standin.h) ----
EXPORT Dim standin_thread_idx() { return t_worker->current->index; }
EXPORT Dim standin_block_idx() { return t_worker->block_index; }
EXPORT Dim standin_block_dim() { return t_worker->launch->block; }
EXPORT Dim standin_grid_dim() { return t_worker->launch->grid; }

EXPORT unsigned standin_lane() { return t_worker->current->id % WARP; }
EXPORT void standin_bad_lane(const char* kind, unsigned mask, int lane, int site) {
    fault(CUDA_ERROR_LAUNCH_FAILED, "%s at line %d reads lane %d, which the mask 0x%08x lacks", kind, site, lane, mask);
}

// op: 0 plain, 1 count, 2 or, 3 and.
EXPORT int standin_syncthreads(const char* kind, int op, int predicate, int site) {
    Worker& w = *t_worker;
    Fiber& f = *w.current;
    f.state = State::AT_BLOCK;
    f.kind = kind;
    f.site = site;
    f.predicate = predicate;
    yield_to_scheduler(w);
    return op == 1 ? w.reduced : op == 2 ? w.reduced > 0 : w.reduced == int(w.threads);
}

static bool together_at(const Fiber& a, const Fiber& b) {
    return a.state == State::AT_WARP && a.mask == b.mask && a.site == b.site && (a.kind == b.kind || !std::strcmp(a.kind, b.kind));
}

// Every lane of `mask` gives `bytes` bytes and gets all lanes' bytes, 32 * bytes with holes for absent lanes. The lane
// that comes last may turn what was given into something else first.
EXPORT const void* standin_collective(const char* kind, unsigned mask, const void* mine, unsigned bytes, int site, void (*together)(void*)) {
    Worker& w = *t_worker;
    Fiber& f = *w.current;
    Fiber* warp = &w.fibers[f.id / WARP * WARP];
    unsigned lane = f.id % WARP, lanes = std::min(WARP, w.threads - f.id / WARP * WARP);
    if (lanes < WARP && mask == 0xFFFFFFFFu) mask = (1u << lanes) - 1;   // a partial last warp
    if (!(mask >> lane & 1)) fault(CUDA_ERROR_LAUNCH_FAILED, "%s at line %d: the mask 0x%08x lacks the calling lane %u", kind, site, mask, lane);
    f.mask = mask, f.kind = kind, f.site = site, f.deposit = mine, f.bytes = bytes, f.state = State::AT_WARP;
    bool complete = true;
    for (unsigned l = lanes; l-- > 0 && complete;)       // lanes arrive in order: the last one missing is found at once
        complete = !(mask >> l & 1) || together_at(warp[l], f);
    if (!complete) {
        yield_to_scheduler(w);
        return f.gathered;
    }
    unsigned char* ring = w.rings + RING_BYTES * (w.next_ring++ % RINGS);
    for (unsigned l = 0; l < lanes; ++l)
        if (mask >> l & 1) {
            std::memcpy(ring + l * bytes, warp[l].deposit, bytes);
            warp[l].gathered = ring;
            warp[l].state = State::READY;
        }
    if (together) together(ring);
    if (!std::strcmp(kind, "__syncwarp")) ++w.warp_epoch[f.id / WARP];
    return ring;
}

EXPORT void standin_assert_fail(const char* expression, const char* file, int line) {
    fault(CUDA_ERROR_ASSERT, "assertion `%s` failed at %s:%d", expression, file, line);
}
EXPORT void standin_trap(int line) { fault(CUDA_ERROR_LAUNCH_FAILED, "trap at line %d", line); }
EXPORT void standin_misaligned(const char* what, const void* address, unsigned alignment, int line) {
    fault(CUDA_ERROR_MISALIGNED_ADDRESS, "%s at line %d needs an address that %u divides, got %p", what, line, alignment, address);
}

// ---- the block ----
static std::string describe_waiting(Worker& w, const Fiber& f) {
    char text[256];
    if (f.state == State::DONE) std::snprintf(text, sizeof text, "%s has returned", name_thread(w, f.id).c_str());
    else std::snprintf(text, sizeof text, "%s waits at %s of line %d", name_thread(w, f.id).c_str(), f.kind, f.site);
    return text;
}

static bool run_warp(Worker& w, unsigned first, unsigned lanes) {
    for (bool ran = true; ran;) {
        ran = false;
        for (unsigned l = 0; l < lanes; ++l)
            if (w.fibers[first + l].state == State::READY) {
                resume(w, w.fibers[first + l]);
                if (w.faulted) return false;
                ran = true;
            }
    }
    for (unsigned l = 0; l < lanes; ++l) {
        Fiber& f = w.fibers[first + l];
        if (f.state != State::AT_WARP) continue;
        for (unsigned o = 0; o < lanes; ++o) {
            Fiber& other = w.fibers[first + o];
            if (!(f.mask >> o & 1) || together_at(other, f)) continue;
            char mask[48];
            std::snprintf(mask, sizeof mask, " with mask 0x%08x", f.mask);
            return block_fault(w, "divergent warp collective: " + describe_waiting(w, f) + mask + ", but " + describe_waiting(w, other)), false;
        }
    }
    return true;
}

// All threads are at a barrier or done. True: they may go on.
static bool release_barrier(Worker& w) {
    Fiber* waiting = nullptr;
    for (unsigned i = 0; i < w.threads; ++i) if (w.fibers[i].state == State::AT_BLOCK) { waiting = &w.fibers[i]; break; }
    if (!waiting) return false;
    for (unsigned i = 0; i < w.threads; ++i) {
        Fiber& f = w.fibers[i];
        if (f.state == State::AT_BLOCK && f.site == waiting->site && !std::strcmp(f.kind, waiting->kind)) continue;
        block_fault(w, "divergent barrier: " + describe_waiting(w, *waiting) + ", but " + describe_waiting(w, f));
        return false;
    }
    w.reduced = 0;
    for (unsigned i = 0; i < w.threads; ++i) w.reduced += w.fibers[i].predicate != 0, w.fibers[i].state = State::READY;
    ++w.epoch;
    return true;
}

static void run_block(Worker& w, Dim index, std::mt19937_64* order) {
    const Dim& d = w.launch->block;
    w.block_index = index;
    w.first_epoch = ++w.epoch;
    if (w.shared_size) poison((void*)w.shared_lo, w.dynamic_lo ? w.dynamic_lo - w.shared_lo : w.shared_size);
    if (w.dynamic_lo) poison((void*)w.dynamic_lo, w.dynamic_hi - w.dynamic_lo);
    for (unsigned i = 0; i < w.threads; ++i) {
        Fiber& f = w.fibers[i];
        f.id = i;
        f.index = Dim{i % d.x, i / d.x % d.y, i / (d.x * d.y)};
        f.state = State::READY;
        f.groups.clear();
        f.open_group.copies.clear();
        start_context(f.context, f.stack_lo, STACK, fiber_main);
    }
    std::vector<unsigned> warps;
    for (unsigned first = 0; first < w.threads; first += WARP) warps.push_back(first);
    do {
        if (order) std::shuffle(warps.begin(), warps.end(), *order);
        for (unsigned first : warps)
            if (!run_warp(w, first, std::min(WARP, w.threads - first))) return;
    } while (release_barrier(w));
}

// ---- a worker: one host thread with stacks for a whole block ----
static void open_worker(Worker& w) {
    size_t stride = STACK + GUARD, bytes = MAX_THREADS * stride + RINGS * RING_BYTES;
    w.own_lo = (uintptr_t)mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    w.own_size = bytes;
    for (unsigned i = 0; i < MAX_THREADS; ++i) {
        mprotect((void*)(w.own_lo + i * stride), GUARD, PROT_NONE);
        w.fibers[i].stack_lo = w.own_lo + i * stride + GUARD;
    }
    w.rings = (unsigned char*)(w.own_lo + MAX_THREADS * stride);
}

Worker::~Worker() {
    if (own_lo) munmap((void*)own_lo, own_size);
}

static int find_segment(dl_phdr_info* info, size_t, void* data) {
    auto* found = static_cast<std::pair<size_t, uintptr_t>*>(data);
    if (info->dlpi_tls_modid != found->first) return 0;
    found->second = (uintptr_t)info->dlpi_tls_data;
    return 1;
}

// The host thread's copy of the unit's thread-local segment is the block's shared memory.
static void attach_shared(Worker& w) {
    Module& m = *w.launch->function->module;
    w.shared_lo = w.shared_size = w.dynamic_lo = w.dynamic_hi = w.dynamic_end = 0;
    uintptr_t dynamic = (uintptr_t)m.dynamic_base();    // touching it allocates the segment
    w.dynamic_lo = m.dynamic_capacity ? dynamic : 0;
    std::pair<size_t, uintptr_t> found{m.tls_modid, 0};
    dl_iterate_phdr(find_segment, &found);
    w.shared_lo = found.second;
    w.shared_size = m.tls_size;
    if (w.dynamic_lo) w.dynamic_hi = w.dynamic_lo + w.launch->dynamic_shared, w.dynamic_end = w.dynamic_lo + m.dynamic_capacity;
    begin_shared_checks(w);
}

static thread_local struct AltStack {
    void* memory = nullptr;
    void arm() {
        if (memory) return;
        memory = mmap(nullptr, 64 << 10, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        stack_t alt{memory, 0, 64 << 10};
        sigaltstack(&alt, nullptr);
    }
} t_alt_stack;

static struct sigaction s_previous[2];
static void on_signal(int number, siginfo_t* info, void* context) {
    Worker* w = t_worker;
    if (w && w->current) {
        uintptr_t address = (uintptr_t)info->si_addr;
        if (number == SIGFPE) fault(CUDA_ERROR_LAUNCH_FAILED, "integer division by zero");
        if (address - (w->current->stack_lo - GUARD) < GUARD) fault(CUDA_ERROR_LAUNCH_FAILED, "stack overflow");
        fault(CUDA_ERROR_ILLEGAL_ADDRESS, "illegal address %s", describe_address(address).c_str());
    }
    struct sigaction& old = s_previous[number == SIGFPE];
    if (old.sa_flags & SA_SIGINFO) old.sa_sigaction(number, info, context);
    else if (old.sa_handler != SIG_DFL && old.sa_handler != SIG_IGN) old.sa_handler(number);
    else signal(number, SIG_DFL);
}

static void arm_signals() {
    static std::once_flag once;
    std::call_once(once, [] {
        struct sigaction action{};
        action.sa_sigaction = on_signal;
        action.sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER;
        sigaction(SIGSEGV, &action, &s_previous[0]);
        sigaction(SIGFPE, &action, &s_previous[1]);
    });
}

struct Job {
    Launch* launch;
    std::atomic<uint64_t> next{0};
    uint64_t blocks, seed;
    unsigned serial;
};

static void work(Job& job) {
    static thread_local std::unique_ptr<Worker> mine;
    if (!mine) mine = std::make_unique<Worker>(), open_worker(*mine);
    t_alt_stack.arm();
    Worker& w = *mine;
    Launch& launch = *job.launch;
    std::vector<void*> args;
    for (auto& a : launch.args) args.push_back(a.data());
    w.launch = &launch;
    w.args = args.data();
    w.threads = launch.block.x * launch.block.y * launch.block.z;
    w.faulted = false;
    w.launch_serial = job.serial;
    t_worker = &w;
    attach_shared(w);
    for (uint64_t b; !s_fault && (b = job.next++) < job.blocks;) {
        std::mt19937_64 order(job.seed + b);
        Dim index{unsigned(b % launch.grid.x), unsigned(b / launch.grid.x % launch.grid.y), unsigned(b / launch.grid.x / launch.grid.y)};
        w.block_serial = unsigned(b);
        w.did_atomic = false;
        run_block(w, index, settings().seeded ? &order : nullptr);
        if (w.faulted) break;
    }
    t_worker = nullptr;
}

// Host threads that wait for jobs; the caller of `run` works too. All launches run under the driver's lock.
class Pool {
  public:
    explicit Pool(unsigned helpers) {
        for (unsigned i = 0; i < helpers; ++i) std::thread([this] { serve(); }).detach();
        helpers_ = helpers;
    }
    void run(Job& job) {
        unsigned invited = unsigned(std::min<uint64_t>(helpers_, job.blocks - 1));
        {
            std::lock_guard<std::mutex> lock(mutex_);
            job_ = &job, open_ = invited, busy_ = invited;
        }
        if (invited) wake_.notify_all();
        work(job);
        std::unique_lock<std::mutex> lock(mutex_);
        done_.wait(lock, [this] { return busy_ == 0; });
    }
  private:
    void serve() {
        std::unique_lock<std::mutex> lock(mutex_);
        for (;;) {
            wake_.wait(lock, [this] { return open_ > 0; });
            --open_;
            Job* job = job_;
            lock.unlock();
            work(*job);
            lock.lock();
            if (--busy_ == 0) done_.notify_all();
        }
    }
    std::mutex mutex_;
    std::condition_variable wake_, done_;
    Job* job_ = nullptr;
    unsigned helpers_ = 0, open_ = 0, busy_ = 0;
};

CUresult run_launch(Launch& launch) {
    static Pool& pool = *new Pool(settings().threads - 1);   // never destroyed: its threads outlive static objects
    arm_signals();
    s_fault = CUDA_SUCCESS;
    static unsigned serial = 0;
    Job job;
    job.launch = &launch;
    job.serial = 1 + serial++ % ((1u << 17) - 1);      // 0 means never
    job.blocks = uint64_t(launch.grid.x) * launch.grid.y * launch.grid.z;
    job.seed = settings().seeded ? schedule_rng()() : 0;
    pool.run(job);
    const char* name = launch.function->entry->name;
    if (!s_fault && !settings().full && !red_zones_intact(name)) s_fault = CUDA_ERROR_ILLEGAL_ADDRESS;
    return s_fault;
}
