// Running one block: warps in turn, lanes until each waits at a barrier or a warp collective or is done.
#include "block.hpp"
#include <algorithm>
#include <cstring>

static void fiber_main() {
    Worker& w = *t_worker;
    w.launch->function->entry->call(w.args);
    w.current->state = State::DONE;
    switch_context(w.current->context, w.scheduler);
    __builtin_unreachable();
}

void yield_to_scheduler(Worker& w) { switch_context(w.current->context, w.scheduler); }

static void resume(Worker& w, Fiber& f) {
    w.current = &f;
    switch_context(w.scheduler, f.context);
    w.current = nullptr;
}

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
            if (!(f.mask >> o & 1) || together_at(other, f) || other.state == State::AT_PHASE || other.state == State::AT_NAMED) continue;
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
    std::vector<Fiber*> all;
    for (unsigned i = 0; i < w.threads; ++i) {
        w.reduced += w.fibers[i].predicate != 0, w.fibers[i].state = State::READY;
        all.push_back(&w.fibers[i]);
    }
    meet(w, all);
    ++w.epoch;
    return true;
}

// Nothing can go on: all threads are done, or some wait for what nobody will do.
static void check_end(Worker& w) {
    for (unsigned i = 0; i < w.threads; ++i)
        if (w.fibers[i].state != State::DONE)
            return block_fault(w, "deadlock: " + describe_waiting(w, w.fibers[i]) + ", and no other thread and no copy can go on");
    end_async(w);
    if (!w.faulted) end_products(w);
    // Whoever waits for this kernel takes it that the ones before are done too.
    bool waited = std::any_of(w.fibers, w.fibers + w.threads, [](const Fiber& f) { return f.waited; });
    if (!w.faulted && w.launch->early && !waited)
        block_fault(w, "the kernel was launched early, and no thread of the block called griddepcontrol.wait");
}

EXPORT void standin_grid_wait() { t_worker->current->waited = true; }

void run_block(Worker& w, Dim index, std::mt19937_64* order) {
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
        f.waited = false;
        f.groups.clear();
        f.open_group.copies.clear();
        start_context(f.context, f.stack_lo, STACK, fiber_main);
    }
    begin_order(w);
    begin_async(w);
    begin_products(w);
    std::vector<unsigned> warps;
    for (unsigned first = 0; first < w.threads; first += WARP) warps.push_back(first);
    for (bool going = true; going;) {
        if (order) std::shuffle(warps.begin(), warps.end(), *order);
        for (unsigned first : warps)
            if (!run_warp(w, first, std::min(WARP, w.threads - first))) return;
        // Copies land late, so that a wait that is missing is seen; with an order drawn from a seed at any time.
        bool early = order && ((*order)() & 1) && land_one(w, order);
        going = wake(w) || early || (!w.faulted && land_one(w, order)) || (!w.faulted && release_barrier(w));
    }
    if (!w.faulted) check_end(w);
}
