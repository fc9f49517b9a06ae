// Stream capture and graphs: a captured call becomes a node and does not run; a launch runs the nodes in an order
// that their dependencies allow. Calls that a capture forbids fail with the driver's codes and invalidate it.
#include "driver.hpp"
#include <algorithm>

enum { MODE_GLOBAL = 0, MODE_THREAD_LOCAL = 1, MODE_RELAXED = 2 };   // CUstreamCaptureMode
static std::set<std::shared_ptr<Capture>> s_captures;               // that are open
static std::set<Graph*> s_graphs, s_executables;

CUresult forbid_in_capture(const char* call) {
    for (auto& capture : s_captures) {
        if (capture->mode == MODE_RELAXED) continue;
        if (capture->mode == MODE_THREAD_LOCAL && capture->thread != std::this_thread::get_id()) continue;
        capture->invalid = true;
        say("%s while a stream is being captured: the capture is invalid", call);
        return CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED;
    }
    return CUDA_SUCCESS;
}

CUresult refuse_while_capturing(Stream* stream, const char* call) {
    if (!stream->capture) return CUDA_SUCCESS;
    stream->capture->invalid = true;
    say("%s on a stream that is being captured: the capture is invalid", call);
    return CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED;
}

EXPORT CUresult cuStreamBeginCapture_v2(void* handle, int mode) {
    ENTER();
    Stream* stream = stream_of(handle);
    if (!stream) return CUDA_ERROR_INVALID_HANDLE;
    if (stream->legacy || stream->capture) return CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED;
    auto capture = std::make_shared<Capture>();
    capture->mode = mode;
    capture->origin = stream;
    capture->members = {stream};
    capture->thread = std::this_thread::get_id();
    stream->capture = capture;
    stream->tail.clear();
    s_captures.insert(capture);
    return CUDA_SUCCESS;
}

// Every node must lie before the end of the origin stream, else a forked stream was never joined.
static bool joined(const Capture& capture) {
    std::vector<bool> seen(capture.graph.nodes.size());
    std::vector<size_t> open = capture.origin->tail;
    while (!open.empty()) {
        size_t n = open.back();
        open.pop_back();
        if (seen[n]) continue;
        seen[n] = true;
        for (size_t d : capture.graph.nodes[n].deps) open.push_back(d);
    }
    return std::find(seen.begin(), seen.end(), false) == seen.end();
}

EXPORT CUresult cuStreamEndCapture(void* handle, void** out) {
    ENTER();
    *out = nullptr;
    Stream* stream = stream_of(handle);
    if (!stream || !stream->capture) return CUDA_ERROR_INVALID_VALUE;
    auto capture = stream->capture;
    if (capture->origin != stream) return CUDA_ERROR_STREAM_CAPTURE_UNMATCHED;
    if (capture->mode != MODE_RELAXED && capture->thread != std::this_thread::get_id()) return CUDA_ERROR_STREAM_CAPTURE_WRONG_THREAD;
    bool complete = joined(*capture);
    for (Stream* member : capture->members) member->capture = nullptr, member->tail.clear();
    s_captures.erase(capture);
    if (capture->invalid) return CUDA_ERROR_STREAM_CAPTURE_INVALIDATED;
    if (!complete) return say("end of capture: a forked stream was not joined"), CUDA_ERROR_STREAM_CAPTURE_UNJOINED;
    auto* graph = new Graph(std::move(capture->graph));
    s_graphs.insert(graph);
    *out = graph;
    return CUDA_SUCCESS;
}

EXPORT CUresult cuStreamIsCapturing(void* handle, int* status) {
    ENTER();
    Stream* stream = stream_of(handle);
    if (!stream) return CUDA_ERROR_INVALID_HANDLE;
    *status = !stream->capture ? 0 : stream->capture->invalid ? 2 : 1;
    return CUDA_SUCCESS;
}

EXPORT CUresult cuGraphInstantiateWithFlags(void** out, void* graph, unsigned long long) {
    ENTER();
    if (!s_graphs.count((Graph*)graph)) return CUDA_ERROR_INVALID_HANDLE;
    auto* executable = new Graph(*(Graph*)graph);
    s_executables.insert(executable);
    *out = executable;
    return CUDA_SUCCESS;
}

EXPORT CUresult cuGraphGetNodes(void* graph, void** nodes, size_t* count) {
    ENTER();
    if (!s_graphs.count((Graph*)graph)) return CUDA_ERROR_INVALID_HANDLE;
    if (nodes) return CUDA_ERROR_NOT_SUPPORTED;
    *count = ((Graph*)graph)->nodes.size();
    return CUDA_SUCCESS;
}

static void run_nodes(const Graph& graph) {
    std::vector<size_t> missing, open;
    std::vector<std::vector<size_t>> followers(graph.nodes.size());
    for (size_t n = 0; n < graph.nodes.size(); ++n) {
        missing.push_back(graph.nodes[n].deps.size());
        for (size_t d : graph.nodes[n].deps) followers[d].push_back(n);
        if (missing[n] == 0) open.push_back(n);
    }
    while (!open.empty() && !g_sticky) {
        // Unseeded, the node that was captured last runs first: branches go in the least likely order.
        size_t pick = settings().seeded ? schedule_rng()() % open.size() : open.size() - 1;
        size_t n = open[pick];
        open.erase(open.begin() + pick);
        graph.nodes[n].run();
        for (size_t f : followers[n]) if (--missing[f] == 0) open.push_back(f);
    }
}

EXPORT CUresult cuGraphLaunch(void* executable, void* handle) {
    ENTER();
    Stream* stream = stream_of(handle);
    if (!stream || !s_executables.count((Graph*)executable)) return CUDA_ERROR_INVALID_HANDLE;
    if (CUresult e = refuse_while_capturing(stream, "cuGraphLaunch (child graphs are not modelled)")) return e;
    auto nodes = std::make_shared<Graph>(*(Graph*)executable);
    return submit(stream, "graph", [nodes] { run_nodes(*nodes); });
}

EXPORT CUresult cuGraphUpload(void* executable, void* handle) {
    ENTER();
    return stream_of(handle) && s_executables.count((Graph*)executable) ? CUDA_SUCCESS : CUDA_ERROR_INVALID_HANDLE;
}

static CUresult destroy(std::set<Graph*>& from, void* graph) {
    std::lock_guard<std::recursive_mutex> lock(g_lock);
    if (!from.erase((Graph*)graph)) return CUDA_ERROR_INVALID_HANDLE;
    delete (Graph*)graph;
    return g_sticky;
}
EXPORT CUresult cuGraphDestroy(void* graph) { return destroy(s_graphs, graph); }
EXPORT CUresult cuGraphExecDestroy(void* executable) { return destroy(s_executables, executable); }
