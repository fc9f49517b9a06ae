// What happened before what in a block, by vector clocks. The agents are its threads, then the wgmma groups of its warps,
// then the phases of its mbarriers. An access is stamped with its agent's clock; a thread knows of each agent how far its
// accesses came before. Barriers pass knowledge on. Used where every access is checked.
#include "block.hpp"
#include <algorithm>

static unsigned agents(const Worker& w) { return w.threads + MAX_WARPS + MAX_MBARRIERS; }
unsigned wgmma_agent(const Worker& w, unsigned warp) { return w.threads + warp; }
unsigned phase_agent(const Worker& w, const MBarrier& b) { return w.threads + MAX_WARPS + b.index; }

std::string name_agent(const Worker& w, unsigned agent) {
    if (agent < w.threads) return name_thread(w, agent);
    if (agent < w.threads + MAX_WARPS) return "a wgmma of warp " + std::to_string(agent - w.threads);
    return "a bulk copy";
}

// Clocks only grow, so that those of earlier blocks are told apart.
uint32_t next_clock(Worker& w, uint32_t clock) {
    w.last_clock = std::max(w.last_clock, clock + 1);
    return clock + 1;
}

void begin_order(Worker& w) {
    if (!settings().full) return;
    w.first_clock = w.last_clock = w.last_clock + 1;
    for (unsigned i = 0; i < w.threads; ++i) {
        Fiber& f = w.fibers[i];
        f.clock = w.first_clock;
        f.know.seen.assign(agents(w), w.first_clock - 1);
        f.know.fenced.assign(agents(w), w.first_clock - 1);
    }
}

void learn(Knowledge& to, const Knowledge& from) {
    if (to.seen.size() < from.seen.size()) to.seen.resize(from.seen.size()), to.fenced.resize(from.fenced.size());
    for (size_t i = 0; i < from.seen.size(); ++i) {
        to.seen[i] = std::max(to.seen[i], from.seen[i]);
        to.fenced[i] = std::max(to.fenced[i], from.fenced[i]);
    }
}

void pass_on(Worker& w, Fiber& f, Knowledge& to) {
    if (!settings().full) return;
    f.know.seen[f.id] = f.clock;
    learn(to, f.know);
    f.clock = next_clock(w, f.clock);
}

void meet(Worker& w, const std::vector<Fiber*>& all) {
    if (!settings().full) return;
    Knowledge together;
    uint32_t clock = 0;
    for (Fiber* f : all) pass_on(w, *f, together), clock = std::max(clock, f->clock);
    for (Fiber* f : all) f->know = together, f->clock = clock;
}

void fence_proxy(Worker& w, Fiber& f) {
    if (!settings().full) return;
    f.know.seen[f.id] = f.clock;
    for (size_t i = 0; i < f.know.seen.size(); ++i) f.know.fenced[i] = std::max(f.know.fenced[i], f.know.seen[i]);
    f.clock = next_clock(w, f.clock);
}

// What every lane of a warp knows: a wgmma starts in all of them.
Knowledge known_to_all(Worker& w, unsigned warp) {
    Knowledge common;
    for (unsigned l = 0; l < WARP; ++l) {
        Fiber& f = w.fibers[warp * WARP + l];
        f.know.seen[f.id] = f.clock;
        if (l == 0) { common = f.know; continue; }
        for (size_t i = 0; i < common.seen.size(); ++i) {
            common.seen[i] = std::min(common.seen[i], f.know.seen[i]);
            common.fenced[i] = std::min(common.fenced[i], f.know.fenced[i]);
        }
    }
    return common;
}
