// Faults of kernels: one line on stderr with kernel, block and thread, and the end of the block.
#include "block.hpp"
#include <cstdarg>

thread_local Worker* t_worker __attribute__((tls_model("initial-exec"))) = nullptr;
std::atomic<CUresult> g_fault{CUDA_SUCCESS};
static std::mutex s_fault_lock;

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
        if (!g_fault) {
            std::string thread = w.current ? ", " + name_thread(w, w.current->id) : "";
            say("kernel %s, block (%u, %u, %u)%s: %s", w.launch->function->entry->name, w.block_index.x, w.block_index.y,
                w.block_index.z, thread.c_str(), what);
            g_fault = code;
        }
    }
    w.faulted = true;
    Context abandoned;
    switch_context(abandoned, w.scheduler);
    __builtin_unreachable();
}

void block_fault(Worker& w, const std::string& what) {
    std::lock_guard<std::mutex> lock(s_fault_lock);
    w.faulted = true;
    if (g_fault) return;
    say("kernel %s, block (%u, %u, %u), %s", w.launch->function->entry->name, w.block_index.x, w.block_index.y,
        w.block_index.z, what.c_str());
    g_fault = CUDA_ERROR_LAUNCH_FAILED;
}
