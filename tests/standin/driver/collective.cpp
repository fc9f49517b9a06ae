// What kernels call (include/cuda_standin.h): indices, barriers and warp collectives.
#include "block.hpp"
#include <cstring>

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

bool together_at(const Fiber& a, const Fiber& b) {
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
    if (!std::strcmp(kind, "__syncwarp")) {
        std::vector<Fiber*> all;
        for (unsigned l = 0; l < lanes; ++l) if (mask >> l & 1) all.push_back(&warp[l]);
        meet(w, all);
    }
    return ring;
}

EXPORT void standin_assert_fail(const char* expression, const char* file, int line) {
    fault(CUDA_ERROR_ASSERT, "assertion `%s` failed at %s:%d", expression, file, line);
}
EXPORT void standin_trap(int line) { fault(CUDA_ERROR_LAUNCH_FAILED, "trap at line %d", line); }
EXPORT void standin_misaligned(const char* what, const void* address, unsigned alignment, int line) {
    fault(CUDA_ERROR_MISALIGNED_ADDRESS, "%s at line %d needs an address that %u divides, got %p", what, line, alignment, address);
}
