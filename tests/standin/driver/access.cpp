// Checks of single accesses: kernels are compiled with the compiler's thread-sanitizer instrumentation, and these are
// the functions it calls. Device memory: bounds, first use before a write, conflicts within a launch. Shared memory:
// bounds, first use before a write, races between barriers, reads of cp.async targets nobody waited for.
#include "block.hpp"
#include <algorithm>
#include <cstring>

static unsigned warps_of(const Worker& w) { return (w.threads + WARP - 1) / WARP; }

void begin_shared_checks(Worker& w) {
    if (!settings().full) return;
    if (w.cells.size() < w.shared_size) w.cells.resize(w.shared_size);
    if (w.reads.size() < w.shared_size * warps_of(w)) w.reads.resize(w.shared_size * warps_of(w));
    if (w.wgmma_reads.size() < (w.shared_size / 16 + 1) * warps_of(w)) w.wgmma_reads.resize((w.shared_size / 16 + 1) * warps_of(w));
}

// The last write and the last read of two bytes of device memory. `launch` makes older ones meaningless.
struct Use { uint64_t launch : 17, atomic : 1, block : 22, epoch : 13, thread : 11; };
static_assert(sizeof(Use) == 8);
static constexpr unsigned MANY_BLOCKS = (1u << 22) - 1, MANY_THREADS = (1u << 11) - 1;

static Use use_of(const Worker& w, bool atomic) { return {w.launch_serial, atomic, w.block_serial, w.epoch - w.first_epoch, w.current->id}; }

// Whether nothing orders the two: other blocks, or other warps between two barriers.
static bool conflict(const Use& before, const Use& now) {
    if (before.launch != now.launch || (before.atomic && now.atomic)) return false;
    if (before.block != now.block) return true;
    return before.epoch == now.epoch && (before.thread == MANY_THREADS || before.thread / WARP != now.thread / WARP);
}

[[noreturn]] static void report_conflict(uintptr_t address, const char* now, const char* before, const Use& use) {
    char who[96] = "several threads";
    if (use.block != MANY_BLOCKS && use.thread != MANY_THREADS)
        std::snprintf(who, sizeof who, "linear thread %u of linear block %u", unsigned(use.thread), unsigned(use.block));
    fault(CUDA_ERROR_LAUNCH_FAILED, "conflict in device memory at %s: nothing orders this %s and the %s of %s", describe_address(address).c_str(), now,
          before, who);
}

// Before griddepcontrol.wait a kernel that was launched early may read only what none of the kernels before it writes that
// may still run: those since the last one that began alone.
static void check_turn(Worker& w, uintptr_t address, unsigned bytes, bool write) {
    if (!w.launch->early || w.current->waited) return;
    if (write) fault(CUDA_ERROR_LAUNCH_FAILED, "write of device memory at %s before griddepcontrol.wait", describe_address(address).c_str());
    unsigned may_run = (w.launch_serial + SERIALS - w.last_whole) % SERIALS;
    for (uintptr_t g = (address - g_arena_lo) / 2, last = (address + bytes - 1 - g_arena_lo) / 2; g <= last; ++g) {
        unsigned writer = ((Use*)g_written)[g].launch, age = (w.launch_serial + SERIALS - writer) % SERIALS;
        if (writer && age > 0 && age <= may_run)
            fault(CUDA_ERROR_LAUNCH_FAILED, "read of device memory at %s before griddepcontrol.wait: a kernel before this one writes it",
                  describe_address(g_arena_lo + g * 2).c_str());
    }
}

// Blocks share a launch without order, so no block may touch what another one writes. A block that has done an atomic
// is taken to know what it waits for (the last block merges what the others wrote).
static void check_conflicts(Worker& w, uintptr_t address, unsigned bytes, bool write, bool atomic) {
    check_turn(w, address, bytes, write);
    if (bytes < 2) return;               // single bytes share an entry with their neighbour
    Use me = use_of(w, atomic);
    w.did_atomic |= atomic;
    for (uintptr_t g = (address - g_arena_lo) / 2, last = (address + bytes - 1 - g_arena_lo) / 2; g <= last; ++g) {
        Use &written = ((Use*)g_written)[g], &read = ((Use*)g_read)[g];
        uintptr_t at = g_arena_lo + g * 2;
        Use old = written;
        if (conflict(old, me) && (write || !w.did_atomic || old.block == me.block)) report_conflict(at, write ? "write" : "read", "write", old);
        if (write) {
            Use r = read;
            if (!atomic && conflict(r, me)) report_conflict(at, "write", "read", r);
            written = me;
        } else if (!atomic) {
            Use r = read;
            bool same = r.launch == me.launch;
            Use next = me;
            if (same && r.block != me.block) next.block = MANY_BLOCKS;
            else if (same && r.epoch == me.epoch && r.thread != me.thread && (r.thread == MANY_THREADS || r.thread / WARP != me.thread / WARP)) next.thread = MANY_THREADS;
            read = next;
        }
    }
}

static void check_device(Worker& w, uintptr_t address, unsigned bytes, bool write, bool atomic) {
    unsigned char* shadow = g_shadow + (address - g_arena_lo);
    for (unsigned i = 0; i < bytes; ++i) {
        if (shadow[i] == UNALLOCATED)
            fault(CUDA_ERROR_ILLEGAL_ADDRESS, "%s of %u bytes out of bounds: %s", write ? "write" : "read", bytes, describe_address(address + i).c_str());
        if (!write && shadow[i] == UNINITIALISED)
            fault(CUDA_ERROR_LAUNCH_FAILED, "uninitialised read of %u bytes: %s was never written", bytes, describe_address(address + i).c_str());
    }
    check_conflicts(w, address, bytes, write, atomic);
    if (write) std::memset(shadow, INITIALISED, bytes);
}

static bool known(const Fiber& f, unsigned agent, uint32_t clock) { return agent == f.id || f.know.seen[agent] >= clock; }

static std::string place(const Worker& w, uintptr_t address) {
    bool dynamic = address >= w.dynamic_lo && address < w.dynamic_end;
    return "byte " + std::to_string(address - (dynamic ? w.dynamic_lo : w.shared_lo)) + (dynamic ? " of the dynamic part" : "");
}

[[noreturn]] static void race(Worker& w, uintptr_t address, const char* now, const char* before, unsigned agent) {
    fault(CUDA_ERROR_LAUNCH_FAILED, "race in shared memory at %s: this %s and the %s of %s have no barrier between them", place(w, address).c_str(), now,
          before, name_agent(w, agent).c_str());
}

// That all reads came before a write of the current thread: its own, and those of `know`.
static void check_readers(Worker& w, uintptr_t at, const char* now) {
    const Fiber& f = *w.current;
    size_t cell = at - w.shared_lo, warps = warps_of(w);
    for (unsigned u = 0; u < warps; ++u) {
        const Reads& r = w.reads[cell * warps + u];
        if (r.clock >= w.first_clock) {
            unsigned first = r.many ? 0 : r.lane, last = r.many ? std::min(WARP, w.threads - u * WARP) - 1 : r.lane;
            for (unsigned l = first; l <= last; ++l)
                if (!known(f, u * WARP + l, r.clock)) race(w, at, now, "read", u * WARP + l);
        }
        uint32_t group = w.wgmma_reads[cell / 16 * warps + u];
        if (group >= w.first_clock && f.know.seen[wgmma_agent(w, u)] < group) race(w, at, now, "read", wgmma_agent(w, u));
    }
}

static void note_read(Worker& w, uintptr_t at) {
    const Fiber& f = *w.current;
    Reads& r = w.reads[(at - w.shared_lo) * warps_of(w) + f.id / WARP];
    uint16_t lane = uint16_t(f.id % WARP);
    bool fresh = r.clock < w.first_clock;
    if (!fresh && r.many && r.clock < f.clock) {
        fresh = true;
        for (unsigned l = 0; l < std::min(WARP, w.threads - f.id / WARP * WARP); ++l) fresh = fresh && known(f, f.id / WARP * WARP + l, r.clock);
    } else if (!fresh && !r.many) {
        fresh = known(f, f.id / WARP * WARP + r.lane, r.clock);
    }
    if (fresh) r = Reads{f.clock, lane, false};
    else r.many = true, r.clock = std::max(r.clock, f.clock);
}

static void check_cell(Worker& w, uintptr_t at, const char* now, bool write) {
    if (w.dynamic_lo && at >= w.dynamic_hi && at < w.dynamic_end)
        fault(CUDA_ERROR_ILLEGAL_ADDRESS, "%s at byte %zu of dynamic shared memory, the launch gave %zu bytes", now, size_t(at - w.dynamic_lo),
              size_t(w.dynamic_hi - w.dynamic_lo));
    const Cell& c = w.cells[at - w.shared_lo];
    bool ours = c.write_clock >= w.first_clock;
    if (c.mbarrier && ours) fault(CUDA_ERROR_LAUNCH_FAILED, "%s of an mbarrier, at %s of shared memory", now, place(w, at).c_str());
    if (c.pending == Pending::CP_ASYNC && ours)
        fault(CUDA_ERROR_LAUNCH_FAILED, "%s of shared memory at byte %zu that a cp.async of %s still has to fill: a wait is missing", now,
              size_t(at - w.shared_lo), name_thread(w, c.copier).c_str());
    if (c.pending == Pending::BULK && ours)
        fault(CUDA_ERROR_LAUNCH_FAILED, "%s of shared memory at %s that a bulk copy of %s still has to fill: a wait for its mbarrier is missing or has the wrong parity",
              now, place(w, at).c_str(), name_thread(w, c.copier).c_str());
    if (!write && !ours)
        fault(CUDA_ERROR_LAUNCH_FAILED, "uninitialised %s of shared memory at byte %zu (or a barrier is missing before it)", now, size_t(at - w.shared_lo));
}

static void check_shared(Worker& w, uintptr_t address, unsigned bytes, bool write, bool atomic) {
    const Fiber& f = *w.current;
    const char* now = write ? "write" : "read";
    for (unsigned i = 0; i < bytes; ++i) {
        uintptr_t at = address + i;
        check_cell(w, at, now, write);
        Cell& c = w.cells[at - w.shared_lo];
        if (c.write_clock >= w.first_clock && !(atomic && c.atomic_write) && !known(f, c.writer, c.write_clock)) race(w, at, now, "write", c.writer);
        if (write && !atomic) check_readers(w, at, now);
        if (write) c.write_clock = f.clock, c.writer = uint16_t(f.id), c.atomic_write = atomic, c.mbarrier = false;
        else note_read(w, at);
    }
}

[[noreturn]] static void unfenced(Worker& w, uintptr_t at, const char* now, unsigned writer) {
    fault(CUDA_ERROR_LAUNCH_FAILED, "%s of shared memory at %s, which %s wrote without the asynchronous proxy: a fence.proxy.async between the two is missing",
          now, place(w, at).c_str(), name_agent(w, writer).c_str());
}

void check_bulk_write(Worker& w, uintptr_t address, unsigned bytes, int line) {
    const Fiber& f = *w.current;
    const std::string now = "bulk copy of line " + std::to_string(line);
    for (unsigned i = 0; i < bytes; ++i) {
        uintptr_t at = address + i;
        check_cell(w, at, now.c_str(), true);
        Cell& c = w.cells[at - w.shared_lo];
        if (c.write_clock >= w.first_clock) {
            if (!known(f, c.writer, c.write_clock)) race(w, at, now.c_str(), "write", c.writer);
            if (c.writer < w.threads && f.know.fenced[c.writer] < c.write_clock) unfenced(w, at, now.c_str(), c.writer);
        }
        check_readers(w, at, now.c_str());
        c.write_clock = std::max(c.write_clock, w.first_clock), c.copier = uint16_t(f.id), c.pending = Pending::BULK;
    }
}

void check_wgmma_read(Worker& w, uintptr_t address, unsigned bytes, const Knowledge& know, unsigned warp, uint32_t clock, int line) {
    const std::string now = "wgmma read of line " + std::to_string(line);
    for (unsigned i = 0; i < bytes; ++i) {
        uintptr_t at = address + i;
        check_cell(w, at, now.c_str(), false);
        const Cell& c = w.cells[at - w.shared_lo];
        if (know.seen[c.writer] < c.write_clock) race(w, at, now.c_str(), "write", c.writer);
        if (c.writer < w.threads && know.fenced[c.writer] < c.write_clock) unfenced(w, at, now.c_str(), c.writer);
        w.wgmma_reads[(at - w.shared_lo) / 16 * warps_of(w) + warp] = clock;
    }
}

void check_access(uintptr_t address, unsigned bytes, bool write, bool atomic) {
    Worker* w = t_worker;
    if (!w || !w->current || address - w->own_lo < w->own_size) return;
    if (address - g_arena_lo < g_arena_size) return check_device(*w, address, bytes, write, atomic);
    if (address - w->shared_lo < w->shared_size) return check_shared(*w, address, bytes, write, atomic);
    const Module& m = *w->launch->function->module;
    if (address >= m.image_lo && address < m.image_hi) return;
    if (is_pinned(address, bytes)) return;
    fault(CUDA_ERROR_ILLEGAL_ADDRESS, "%s of %u bytes at %s", write ? "write" : "read", bytes, describe_address(address).c_str());
}

static void check_plain(const void* p, unsigned bytes, bool write) { check_access((uintptr_t)p, bytes, write, false); }

#define HOOKS(N)                                                                        \
    EXPORT void __tsan_read##N(void* p) { check_plain(p, N, false); }                \
    EXPORT void __tsan_write##N(void* p) { check_plain(p, N, true); }                \
    EXPORT void __tsan_volatile_read##N(void* p) { check_plain(p, N, false); }       \
    EXPORT void __tsan_volatile_write##N(void* p) { check_plain(p, N, true); }       \
    EXPORT void __tsan_unaligned_read##N(void* p) { check_plain(p, N, false); }      \
    EXPORT void __tsan_unaligned_write##N(void* p) { check_plain(p, N, true); }
HOOKS(1) HOOKS(2) HOOKS(4) HOOKS(8) HOOKS(16)
EXPORT void __tsan_read_range(void* p, size_t n) { check_plain(p, unsigned(n), false); }
EXPORT void __tsan_write_range(void* p, size_t n) { check_plain(p, unsigned(n), true); }
EXPORT void __tsan_init() {}
EXPORT void __tsan_func_entry(void*) {}
EXPORT void __tsan_func_exit() {}
EXPORT void __tsan_vptr_update(void**, void*) {}

// The alignment sanitizer's report, which is compiled in always: a card faults on a vector access like this.
struct TypeMismatch {
    const char* file;
    unsigned line, column;
    struct { uint16_t kind, info; char name[1]; }* type;
    unsigned char log_alignment, kind;
};
EXPORT void __ubsan_handle_type_mismatch_v1(TypeMismatch* m, uintptr_t address) {
    fault(CUDA_ERROR_MISALIGNED_ADDRESS, "%s:%u: %s at address 0x%zx, which %u does not divide", m->file, m->line, m->type->name,
          size_t(address), 1u << m->log_alignment);
}

// ---- atomics: compare-and-swap is the only primitive, the header builds the rest on it ----
EXPORT bool standin_cas32(unsigned* p, unsigned* expected, unsigned desired) {
    if (settings().full) check_access((uintptr_t)p, 4, false, true), check_access((uintptr_t)p, 4, true, true);
    return __atomic_compare_exchange_n(p, expected, desired, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);
}
EXPORT bool standin_cas64(unsigned long long* p, unsigned long long* expected, unsigned long long desired) {
    if (settings().full) check_access((uintptr_t)p, 8, false, true), check_access((uintptr_t)p, 8, true, true);
    return __atomic_compare_exchange_n(p, expected, desired, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);
}

// What a copy reads of device memory; it may be uninitialised.
void check_device_copy(Worker& w, uintptr_t address, unsigned bytes, const char* what, int line) {
    if (address - g_arena_lo >= g_arena_size) fault(CUDA_ERROR_ILLEGAL_ADDRESS, "%s at line %d reads %s", what, line, describe_address(address).c_str());
    for (unsigned i = 0; i < bytes; ++i)
        if (g_shadow[address + i - g_arena_lo] == UNALLOCATED)
            fault(CUDA_ERROR_ILLEGAL_ADDRESS, "%s at line %d reads out of bounds: %s", what, line, describe_address(address + i).c_str());
    check_conflicts(w, address, bytes, false, false);
}

// ---- cp.async: the copy happens at the wait; until then its target holds poison ----
EXPORT void standin_cp_async(void* to, const void* from, unsigned bytes, unsigned read, int line) {
    Worker& w = *t_worker;
    uintptr_t t = (uintptr_t)to, f = (uintptr_t)from;
    if (t % bytes || (read && f % bytes)) fault(CUDA_ERROR_MISALIGNED_ADDRESS, "cp.async of %u bytes at line %d: misaligned address", bytes, line);
    if (read > bytes) fault(CUDA_ERROR_LAUNCH_FAILED, "cp.async at line %d reads %u of %u bytes", line, read, bytes);
    if (t - w.shared_lo >= w.shared_size) fault(CUDA_ERROR_ILLEGAL_ADDRESS, "cp.async at line %d: the target is not shared memory", line);
    if (settings().full) {
        check_shared(w, t, bytes, true, false);
        for (unsigned i = 0; i < bytes; ++i) {
            Cell& c = w.cells[t + i - w.shared_lo];
            c.pending = Pending::CP_ASYNC, c.copier = uint16_t(w.current->id);
        }
        if (read) check_device_copy(w, f, read, "cp.async", line);
    }
    poison(to, bytes);
    w.current->open_group.copies.push_back({t, f, bytes, read});
}

EXPORT void standin_cp_async_commit() {
    Fiber& f = *t_worker->current;
    f.groups.push_back(std::move(f.open_group));
    f.open_group.copies.clear();
}

static void land(Worker& w, const CopyGroup& group) {
    for (auto& c : group.copies) {
        std::memcpy((void*)c.to, (void*)c.from, c.read);
        std::memset((void*)(c.to + c.read), 0, c.bytes - c.read);
        if (!settings().full) continue;
        for (unsigned i = 0; i < c.bytes; ++i) {
            Cell& cell = w.cells[c.to + i - w.shared_lo];
            bool defined = i >= c.read || g_shadow[c.from + i - g_arena_lo] == INITIALISED;
            cell.pending = Pending::NO;
            cell.write_clock = defined ? w.current->clock : 0;
            cell.writer = uint16_t(w.current->id);
            cell.atomic_write = false;
        }
    }
}

EXPORT void standin_cp_async_wait(unsigned left) {
    Worker& w = *t_worker;
    Fiber& f = *w.current;
    for (; f.groups.size() > left; f.groups.pop_front()) land(w, f.groups.front());
}
EXPORT void standin_cp_async_wait_all() {
    standin_cp_async_commit();
    standin_cp_async_wait(0);
}
