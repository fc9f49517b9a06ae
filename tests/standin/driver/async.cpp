// The asynchronous parts of a block: mbarriers, bulk copies by tensor map, named barriers, setmaxnreg. A copy lands when no
// thread can go on (or when the seed says so); until then its target holds poison.
#include "block.hpp"
#include <algorithm>
#include <cstring>

// ---- addresses in shared memory: 18 bits, as descriptors hold them ----
EXPORT unsigned standin_shared_address(const void* p) {
    Worker& w = *t_worker;
    if ((uintptr_t)p - w.shared_lo >= w.shared_size) fault(CUDA_ERROR_ILLEGAL_ADDRESS, "the address of what is not in shared memory");
    return unsigned((uintptr_t)p - (w.shared_lo & ~uintptr_t(1023)));
}
static uintptr_t from_shared(const Worker& w, unsigned address) { return (w.shared_lo & ~uintptr_t(1023)) + address; }
EXPORT void* standin_shared_pointer(unsigned address) { return (void*)from_shared(*t_worker, address); }

void begin_async(Worker& w) {
    w.mbarriers.clear();
    w.copies.clear();
    for (auto& m : w.maxnreg) m.clear();
}

// ---- mbarriers ----
static MBarrier& mbarrier_at(Worker& w, unsigned address, const char* what, int line) {
    uintptr_t at = from_shared(w, address);
    if (at % 8) fault(CUDA_ERROR_MISALIGNED_ADDRESS, "%s at line %d: the mbarrier is not at a multiple of 8", what, line);
    for (auto& b : w.mbarriers)
        if (b.at == at) {
            if (settings().full && b.maker != w.current->id && w.current->know.seen[b.maker] < b.made)
                fault(CUDA_ERROR_LAUNCH_FAILED, "%s at line %d: no barrier comes after the init of the mbarrier by %s", what, line,
                      name_thread(w, b.maker).c_str());
            return b;
        }
    fault(CUDA_ERROR_LAUNCH_FAILED, "%s at line %d: no mbarrier was initialised there", what, line);
}

static void complete_if_done(Worker& w, MBarrier& b) {
    if (b.waiting || b.bytes) return;
    ++b.phase;
    b.waiting = b.count;
    if (!settings().full) return;
    // What landed in the phase is known to those who wait for it.
    unsigned agent = phase_agent(w, b);
    b.done = std::move(b.arrived);
    b.arrived = Knowledge();
    if (b.done.seen.size() <= agent) b.done.seen.resize(agent + 1), b.done.fenced.resize(agent + 1);
    b.done.seen[agent] = b.done.fenced[agent] = w.first_clock + b.phase;
    w.last_clock = std::max(w.last_clock, w.first_clock + b.phase);
}

EXPORT void standin_mbarrier_init(unsigned address, unsigned count, int line) {
    Worker& w = *t_worker;
    uintptr_t at = from_shared(w, address);
    if (at % 8 || at - w.shared_lo >= w.shared_size) fault(CUDA_ERROR_MISALIGNED_ADDRESS, "mbarrier.init at line %d: no aligned shared memory", line);
    for (auto& b : w.mbarriers)
        if (b.at == at) fault(CUDA_ERROR_LAUNCH_FAILED, "mbarrier.init at line %d: the mbarrier is in use", line);
    if (w.mbarriers.size() == MAX_MBARRIERS || !count) fault(CUDA_ERROR_LAUNCH_FAILED, "mbarrier.init at line %d: no count, or too many mbarriers", line);
    MBarrier b;
    b.at = at, b.count = b.waiting = count, b.index = unsigned(w.mbarriers.size()), b.maker = w.current->id;
    if (settings().full) {
        check_access(at, 8, true, false);
        b.made = w.current->clock;
        for (unsigned i = 0; i < 8; ++i) w.cells[at + i - w.shared_lo].mbarrier = true;
    }
    w.mbarriers.push_back(std::move(b));
}

EXPORT void standin_mbarrier_arrive(unsigned address, unsigned bytes, int line) {
    Worker& w = *t_worker;
    MBarrier& b = mbarrier_at(w, address, "mbarrier.arrive", line);
    pass_on(w, *w.current, b.arrived);
    if (!b.waiting) fault(CUDA_ERROR_LAUNCH_FAILED, "mbarrier.arrive at line %d: all %u of this phase have arrived", line, b.count);
    b.bytes += bytes;
    --b.waiting;
    complete_if_done(w, b);
}

static bool phase_over(const MBarrier& b, unsigned parity) { return (b.phase & 1) != parity; }

EXPORT void standin_mbarrier_wait(unsigned address, unsigned parity, int line) {
    Worker& w = *t_worker;
    Fiber& f = *w.current;
    MBarrier* b = &mbarrier_at(w, address, "mbarrier.try_wait", line);
    if (!phase_over(*b, parity & 1)) {
        f.state = State::AT_PHASE, f.kind = parity & 1 ? "mbarrier.try_wait for parity 1" : "mbarrier.try_wait for parity 0", f.site = line;
        f.mbarrier = b->at, f.parity = parity & 1;
        yield_to_scheduler(w);
        b = &mbarrier_at(w, address, "mbarrier.try_wait", line);
    }
    if (settings().full && b->phase) learn(f.know, b->done);
}

EXPORT void standin_fence_proxy_async() { fence_proxy(*t_worker, *t_worker->current); }

// ---- bulk copies ----
// cp.async.bulk.tensor.2d: column and row of the box's first element; what lies outside becomes zero.
EXPORT void standin_bulk_copy(unsigned to, const void* map_at, unsigned mbarrier, int column, int row, int line) {
    Worker& w = *t_worker;
    BulkCopy copy{from_shared(w, to), (uintptr_t)map_at, 0, {}, {column, row}, w.current->id};
    if (copy.from_map % 64) fault(CUDA_ERROR_MISALIGNED_ADDRESS, "bulk copy at line %d: the tensor map is not at a multiple of 64", line);
    std::memcpy(copy.map, map_at, sizeof copy.map);
    const auto& map = *reinterpret_cast<const TensorMap*>(copy.map);
    if (map.magic != TENSOR_MAP) fault(CUDA_ERROR_LAUNCH_FAILED, "bulk copy at line %d: that is no tensor map", line);
    if (map.swizzle != 3 || map.box[0] * map.element != 128)
        fault(CUDA_ERROR_LAUNCH_FAILED, "bulk copy at line %d: only rows of 128 bytes with the swizzle of 128 bytes are modelled", line);
    if (copy.to % 128) fault(CUDA_ERROR_MISALIGNED_ADDRESS, "bulk copy at line %d: the target is not at a multiple of 128", line);
    MBarrier& b = mbarrier_at(w, mbarrier, "bulk copy", line);
    copy.mbarrier = b.at;
    unsigned bytes = map.box[0] * map.box[1] * map.element;
    if (copy.to - w.shared_lo + bytes > w.shared_size) fault(CUDA_ERROR_ILLEGAL_ADDRESS, "bulk copy at line %d: the target is not shared memory", line);
    if (settings().full) {
        if (w.current->know.fenced[b.maker] < b.made)
            fault(CUDA_ERROR_LAUNCH_FAILED, "bulk copy at line %d: a fence.proxy.async between the init of its mbarrier and the copy is missing", line);
        for (unsigned r = 0; r < map.box[1]; ++r) {
            int64_t from = int64_t(row) + r, width = std::min<int64_t>(map.dims[0] - column, map.box[0]);
            if (from < 0 || from >= int64_t(map.dims[1]) || column < 0 || width <= 0) continue;
            check_device_copy(w, map.address + from * map.stride + int64_t(column) * map.element, unsigned(width) * map.element, "bulk copy", line);
        }
        check_bulk_write(w, copy.to, bytes, line);
    }
    poison((void*)copy.to, bytes);
    w.copies.push_back(copy);
}

// The chunks of 16 bytes of a row of 128 are permuted by bits 7 to 9 of the address.
static uintptr_t swizzled(uintptr_t address) { return address ^ (address >> 7 & 7) << 4; }

bool land_one(Worker& w, std::mt19937_64* order) {
    if (w.copies.empty()) return false;
    size_t which = order ? (*order)() % w.copies.size() : 0;
    BulkCopy copy = w.copies[which];
    w.copies.erase(w.copies.begin() + which);
    const auto& map = *reinterpret_cast<const TensorMap*>(copy.map);
    auto& b = *std::find_if(w.mbarriers.begin(), w.mbarriers.end(), [&](const MBarrier& m) { return m.at == copy.mbarrier; });
    unsigned bytes = map.box[0] * map.box[1] * map.element;
    for (unsigned r = 0; r < map.box[1]; ++r)
        for (unsigned chunk = 0; chunk < 8; ++chunk) {
            unsigned char value[16] = {};
            for (unsigned i = 0; i < 16; i += map.element) {
                int64_t column = int64_t(copy.at[0]) + (chunk * 16 + i) / map.element, row = int64_t(copy.at[1]) + r;
                if (column < 0 || row < 0 || column >= int64_t(map.dims[0]) || row >= int64_t(map.dims[1])) continue;
                std::memcpy(value + i, (const char*)(map.address + row * map.stride + column * map.element), map.element);
            }
            std::memcpy((void*)swizzled(copy.to + r * 128 + chunk * 16), value, 16);
        }
    if (settings().full)
        for (unsigned i = 0; i < bytes; ++i) {
            Cell& c = w.cells[copy.to + i - w.shared_lo];
            c.pending = Pending::NO, c.atomic_write = c.mbarrier = false;
            c.writer = uint16_t(phase_agent(w, b)), c.write_clock = w.first_clock + b.phase + 1;
        }
    b.bytes -= bytes;
    complete_if_done(w, b);
    return true;
}

// ---- named barriers ----
EXPORT void standin_named_barrier(unsigned barrier, unsigned threads, int line) {
    Worker& w = *t_worker;
    Fiber& f = *w.current;
    if (barrier == 0 || barrier > 15) fault(CUDA_ERROR_LAUNCH_FAILED, "bar.sync at line %d: barrier %u; there are 1 to 15, and 0 is __syncthreads'", line, barrier);
    if (threads % WARP || !threads) fault(CUDA_ERROR_LAUNCH_FAILED, "bar.sync at line %d: %u threads are not whole warps", line, threads);
    f.state = State::AT_NAMED, f.kind = "bar.sync", f.site = line, f.barrier = barrier, f.barrier_threads = threads;
    yield_to_scheduler(w);
}

bool wake(Worker& w) {
    bool woken = false;
    std::vector<Fiber*> at[16];
    for (unsigned i = 0; i < w.threads; ++i) {
        Fiber& f = w.fibers[i];
        if (f.state == State::AT_NAMED) at[f.barrier].push_back(&f);
        if (f.state != State::AT_PHASE) continue;
        for (auto& b : w.mbarriers)
            if (b.at == f.mbarrier && phase_over(b, f.parity)) f.state = State::READY, woken = true;
    }
    for (auto& all : at) {
        for (Fiber* f : all)
            if (f->barrier_threads != all[0]->barrier_threads || all.size() > f->barrier_threads)
                return block_fault(w, "bar.sync " + std::to_string(f->barrier) + ": threads of lines " + std::to_string(all[0]->site) + " and " +
                                          std::to_string(f->site) + " disagree about how many meet, or more came"), false;
        if (all.empty() || all.size() < all[0]->barrier_threads) continue;
        meet(w, all);
        for (Fiber* f : all) f->state = State::READY;
        woken = true;
    }
    return woken;
}

// ---- setmaxnreg: no registers are counted here, but its place is checked ----
// At launch a thread has no more than its share; how many, the compiler decides.
static unsigned share_of_registers(const Worker& w) { return std::min(255u, 65536 / w.threads / 8 * 8); }
static void note_maxnreg(void* all) {
    Worker& w = *t_worker;
    struct { int line; unsigned registers; int increase; } asked;
    std::memcpy(&asked, all, sizeof asked);
    auto& before = w.maxnreg[w.current->id / WARP];
    if (asked.registers % 8 || asked.registers < 24 || asked.registers > 256)
        fault(CUDA_ERROR_LAUNCH_FAILED, "setmaxnreg at line %d: %u registers", asked.line, asked.registers);
    unsigned least = asked.increase && !before.empty() ? before.back().registers : 0;
    unsigned most = asked.increase ? 256 : before.empty() ? share_of_registers(w) : before.back().registers;
    if (asked.registers < least || asked.registers > most)
        fault(CUDA_ERROR_LAUNCH_FAILED, "setmaxnreg at line %d: %u registers are in the wrong direction", asked.line, asked.registers);
    if (products_pending(w, w.current->id / WARP)) fault(CUDA_ERROR_LAUNCH_FAILED, "setmaxnreg at line %d: a wgmma is under way", asked.line);
    before.push_back({asked.line, asked.registers});
}
EXPORT void standin_setmaxnreg(unsigned registers, int increase, int line) {
    struct { int line; unsigned registers; int increase; } mine{line, registers, increase};
    standin_collective("setmaxnreg", 0xFFFFFFFFu, &mine, sizeof mine, line, note_maxnreg);
}

void end_async(Worker& w) {
    if (!w.copies.empty()) return block_fault(w, "the block ends while a bulk copy of " + name_thread(w, w.copies[0].thread) + " is under way");
    unsigned warps = (w.threads + WARP - 1) / WARP, total = 0;
    for (unsigned u = 0; u < warps; ++u) {
        const auto &mine = w.maxnreg[u], &first = w.maxnreg[u / 4 * 4];
        total += WARP * (mine.empty() ? share_of_registers(w) : mine.back().registers);
        bool same = mine.size() == first.size() && std::equal(mine.begin(), mine.end(), first.begin(), [](auto& a, auto& b) { return a.line == b.line; });
        if (!same || (!mine.empty() && warps % 4))
            return block_fault(w, "setmaxnreg of line " + std::to_string((mine.empty() ? first : mine).back().line) + " was not run by all warps of a warpgroup");
    }
    // A block passes on registers that it has; others of the multiprocessor are out of its reach.
    const unsigned most = warps * WARP * share_of_registers(w);
    if (total > most) block_fault(w, "setmaxnreg: the warps want " + std::to_string(total) + " registers, the block has " + std::to_string(most) + ": one would wait for ever");
}
