// Checks of single accesses: kernels are compiled with the compiler's thread-sanitizer instrumentation, and these are
// the functions it calls. Device memory: bounds, first use before a write, conflicts within a launch. Shared memory:
// bounds, first use before a write, races between barriers, reads of cp.async targets nobody waited for.
#include "block.hpp"
#include <algorithm>
#include <cstring>

void begin_shared_checks(Worker& w) {
    if (settings().full && w.cells.size() < w.shared_size) w.cells.resize(w.shared_size);
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

// Blocks share a launch without order, so no block may touch what another one writes. A block that has done an atomic
// is taken to know what it waits for (the last block merges what the others wrote).
static void check_conflicts(Worker& w, uintptr_t address, unsigned bytes, bool write, bool atomic) {
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

static bool ordered(const Worker& w, unsigned me, unsigned other, uint32_t other_epoch, uint32_t other_warp_epoch) {
    if (other == me || other_epoch != w.epoch) return true;
    return other / WARP == me / WARP && other_warp_epoch != w.warp_epoch[me / WARP];
}

[[noreturn]] static void race(Worker& w, uintptr_t address, const char* now, const char* before, unsigned other) {
    fault(CUDA_ERROR_LAUNCH_FAILED, "race in shared memory at byte %zu%s: this %s and the %s of %s have no barrier between them",
          size_t(address - (address >= w.dynamic_lo && address < w.dynamic_end ? w.dynamic_lo : w.shared_lo)),
          address >= w.dynamic_lo && address < w.dynamic_end ? " of the dynamic part" : "", now, before, name_thread(w, other).c_str());
}

static void check_shared(Worker& w, uintptr_t address, unsigned bytes, bool write, bool atomic) {
    unsigned me = w.current->id;
    for (unsigned i = 0; i < bytes; ++i) {
        uintptr_t at = address + i;
        if (w.dynamic_lo && at >= w.dynamic_hi && at < w.dynamic_end)
            fault(CUDA_ERROR_ILLEGAL_ADDRESS, "%s at byte %zu of dynamic shared memory, the launch gave %zu bytes", write ? "write" : "read",
                  size_t(at - w.dynamic_lo), size_t(w.dynamic_hi - w.dynamic_lo));
        Cell& c = w.cells[at - w.shared_lo];
        if (c.pending && c.written >= w.first_epoch)
            fault(CUDA_ERROR_LAUNCH_FAILED, "%s of shared memory at byte %zu that a cp.async of %s still has to fill: a wait is missing",
                  write ? "write" : "read", size_t(at - w.shared_lo), name_thread(w, c.writer).c_str());
        if (!write && c.written < w.first_epoch)
            fault(CUDA_ERROR_LAUNCH_FAILED, "uninitialised read of shared memory at byte %zu (or a barrier is missing before it)",
                  size_t(at - w.shared_lo));
        if (c.written >= w.first_epoch && !(atomic && c.atomic_write) && !ordered(w, me, c.writer, c.written, c.write_warp_epoch))
            race(w, at, write ? "write" : "read", "write", c.writer);
        if (write && !atomic && c.read == w.epoch) {
            if (!ordered(w, me, c.reader, c.read, c.read_warp_epoch)) race(w, at, "write", "read", c.reader);
            if (c.many_warps || (c.many_readers && c.read_warp_epoch == w.warp_epoch[me / WARP])) race(w, at, "write", "read", c.reader);
        }
        if (write) {
            c.written = w.epoch, c.write_warp_epoch = w.warp_epoch[me / WARP], c.writer = uint16_t(me);
            c.pending = false, c.atomic_write = atomic;
        } else {
            bool same = c.read == w.epoch;
            c.many_warps = same && (c.many_warps || c.reader / WARP != me / WARP);
            c.many_readers = same && (c.reader != me || c.many_readers) && c.read_warp_epoch == w.warp_epoch[me / WARP];
            c.read = w.epoch, c.read_warp_epoch = w.warp_epoch[me / WARP], c.reader = uint16_t(me);
        }
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

// ---- cp.async: the copy happens at the wait; until then its target holds poison ----
EXPORT void standin_cp_async(void* to, const void* from, unsigned bytes, unsigned read, int line) {
    Worker& w = *t_worker;
    uintptr_t t = (uintptr_t)to, f = (uintptr_t)from;
    if (t % bytes || (read && f % bytes)) fault(CUDA_ERROR_MISALIGNED_ADDRESS, "cp.async of %u bytes at line %d: misaligned address", bytes, line);
    if (read > bytes) fault(CUDA_ERROR_LAUNCH_FAILED, "cp.async at line %d reads %u of %u bytes", line, read, bytes);
    if (t - w.shared_lo >= w.shared_size) fault(CUDA_ERROR_ILLEGAL_ADDRESS, "cp.async at line %d: the target is not shared memory", line);
    if (settings().full) {
        check_shared(w, t, bytes, true, false);
        for (unsigned i = 0; i < bytes; ++i) w.cells[t + i - w.shared_lo].pending = true;
        if (read && f - g_arena_lo < g_arena_size) {
            for (unsigned i = 0; i < read; ++i)
                if (g_shadow[f + i - g_arena_lo] == UNALLOCATED)
                    fault(CUDA_ERROR_ILLEGAL_ADDRESS, "cp.async at line %d reads out of bounds: %s", line, describe_address(f + i).c_str());
            check_conflicts(w, f, read, false, false);
        } else if (read) {
            fault(CUDA_ERROR_ILLEGAL_ADDRESS, "cp.async at line %d reads %s", line, describe_address(f).c_str());
        }
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
            cell.pending = false;
            cell.written = defined ? w.epoch : 0;
            cell.writer = uint16_t(w.current->id);
            cell.write_warp_epoch = w.warp_epoch[w.current->id / WARP];
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
