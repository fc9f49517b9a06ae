// Host threads that run blocks: each has stacks for a whole block, and its copy of the unit's thread-local segment is the
// block's shared memory.
#include "block.hpp"
#include <algorithm>
#include <condition_variable>
#include <csignal>
#include <link.h>
#include <sys/mman.h>

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
    unsigned serial, last_whole;
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
    w.last_whole = job.last_whole;
    t_worker = &w;
    attach_shared(w);
    for (uint64_t b; !g_fault && (b = job.next++) < job.blocks;) {
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
    g_fault = CUDA_SUCCESS;
    static unsigned serial = 0, last_whole = 0;
    Job job;
    job.launch = &launch;
    job.serial = 1 + serial++ % SERIALS;
    if (!launch.early) last_whole = job.serial;
    job.last_whole = last_whole;
    job.blocks = uint64_t(launch.grid.x) * launch.grid.y * launch.grid.z;
    job.seed = settings().seeded ? schedule_rng()() : 0;
    pool.run(job);
    const char* name = launch.function->entry->name;
    if (!g_fault && !settings().full && !red_zones_intact(name)) g_fault = CUDA_ERROR_ILLEGAL_ADDRESS;
    return g_fault;
}
