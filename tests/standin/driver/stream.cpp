// Streams and events. Work is only queued; it runs when somebody waits for it, and then no more of it than the
// wait needs (or, with a seed, in an arbitrary legal interleaving): a missing dependency shows as wrong data.
#include "driver.hpp"
#include <algorithm>
#include <chrono>

static Stream& legacy_stream() {
    static Stream stream = [] { Stream s; s.legacy = true; return s; }();
    return stream;
}
static std::set<Stream*> s_streams;    // created ones
static std::set<Event*> s_events;
static constexpr unsigned NON_BLOCKING = 1;

std::mt19937_64& schedule_rng() {
    static std::mt19937_64 rng(settings().seed);
    return rng;
}

static double now_ms() {
    return std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

// Handles 0 (legacy), 1 (CU_STREAM_LEGACY) and 2 (CU_STREAM_PER_THREAD, here an ordinary blocking stream).
Stream* stream_of(void* handle) {
    static Stream per_thread;
    if (handle == nullptr || handle == (void*)1) return &legacy_stream();
    if (handle == (void*)2) return s_streams.insert(&per_thread), &per_thread;
    auto it = s_streams.find((Stream*)handle);
    return it == s_streams.end() ? nullptr : *it;
}

static bool ready(Stream* s) { return !s->queue.empty() && (!s->queue.front().wait || s->queue.front().wait->done); }

static void run_front(Stream* s) {
    Op op = std::move(s->queue.front());
    s->queue.pop_front();
    if (op.run && !g_sticky) op.run();
    if (op.signal) op.signal->at = now_ms(), op.signal->done = true;
}

bool step_towards(const std::shared_ptr<Marker>& marker) {
    if (marker->done) return true;
    if (settings().seeded) {
        std::vector<Stream*> open;
        if (ready(&legacy_stream())) open.push_back(&legacy_stream());
        for (Stream* s : s_streams) if (ready(s)) open.push_back(s);
        std::sort(open.begin(), open.end(), [](Stream* a, Stream* b) { return a->id < b->id; });
        run_front(open[schedule_rng()() % open.size()]);
        return marker->done;
    }
    Stream* s = marker->stream;
    while (s->queue.front().wait && !s->queue.front().wait->done) s = s->queue.front().wait->stream;
    run_front(s);
    return marker->done;
}

void force(const std::shared_ptr<Marker>& marker) { while (!step_towards(marker)) {} }

static std::shared_ptr<Marker> mark(Stream* stream) {
    auto marker = std::make_shared<Marker>();
    marker->stream = stream;
    if (stream->queue.empty()) marker->done = true, marker->at = now_ms();
    else stream->queue.push_back(Op{nullptr, nullptr, marker});
    return marker;
}

void finish(Stream* stream) { force(mark(stream)); }
void finish_all() {
    finish(&legacy_stream());
    for (Stream* s : s_streams) finish(s);
}

static void push(Stream* stream, Op op) {
    stream->queue.push_back(std::move(op));
    if (settings().eager) finish(stream);
}

// The legacy stream waits for every blocking stream, and every blocking stream for it.
static CUresult order_with_legacy(Stream* stream) {
    if (stream->flags & NON_BLOCKING) return CUDA_SUCCESS;
    std::vector<Stream*> others;
    if (!stream->legacy) others.push_back(&legacy_stream());
    else for (Stream* s : s_streams) if (!(s->flags & NON_BLOCKING)) others.push_back(s);
    for (Stream* s : others) {
        if (s->capture) {
            s->capture->invalid = true;
            say("work on the legacy stream while a blocking stream is being captured");
            return CUDA_ERROR_STREAM_CAPTURE_IMPLICIT;
        }
        if (!s->queue.empty()) stream->queue.push_back(Op{nullptr, mark(s), nullptr});
    }
    return CUDA_SUCCESS;
}

CUresult submit(Stream* stream, const char* what, std::function<void()> run) {
    if (stream->capture) {
        if (stream->capture->invalid) return CUDA_ERROR_STREAM_CAPTURE_INVALIDATED;
        auto& nodes = stream->capture->graph.nodes;
        nodes.push_back(Node{what, std::move(run), stream->tail});
        stream->tail = {nodes.size() - 1};
        return CUDA_SUCCESS;
    }
    if (CUresult e = order_with_legacy(stream)) return e;
    push(stream, Op{std::move(run), nullptr, nullptr});
    return settings().eager ? g_sticky : CUDA_SUCCESS;
}

static CUresult create(void** out, unsigned flags) {
    if (CUresult e = forbid_in_capture("cuStreamCreate")) return e;
    auto* stream = new Stream;
    static uint64_t serial = 0;
    stream->flags = flags;
    stream->id = ++serial;
    s_streams.insert(stream);
    *out = stream;
    return CUDA_SUCCESS;
}
EXPORT CUresult cuStreamCreate(void** out, unsigned flags) { ENTER(); return create(out, flags); }
EXPORT CUresult cuStreamCreateWithPriority(void** out, unsigned flags, int) { ENTER(); return create(out, flags); }

EXPORT CUresult cuStreamDestroy_v2(void* handle) {
    std::lock_guard<std::recursive_mutex> lock(g_lock);
    auto it = s_streams.find((Stream*)handle);
    if (it == s_streams.end()) return CUDA_ERROR_INVALID_HANDLE;
    if ((*it)->capture) (*it)->capture->invalid = true, (*it)->capture->members.erase(*it);
    finish(*it);
    delete *it;
    s_streams.erase(it);
    return g_sticky;
}

EXPORT CUresult cuStreamSynchronize(void* handle) {
    ENTER();
    Stream* stream = stream_of(handle);
    if (!stream) return CUDA_ERROR_INVALID_HANDLE;
    if (CUresult e = refuse_while_capturing(stream, "cuStreamSynchronize")) return e;
    if (CUresult e = order_with_legacy(stream)) return e;
    finish(stream);
    return g_sticky;
}

EXPORT CUresult cuStreamQuery(void* handle) {
    ENTER();
    Stream* stream = stream_of(handle);
    if (!stream) return CUDA_ERROR_INVALID_HANDLE;
    if (CUresult e = refuse_while_capturing(stream, "cuStreamQuery")) return e;
    bool done = stream->queue.empty() || (step_towards(mark(stream)) && stream->queue.empty());
    if (g_sticky) return g_sticky;
    return done ? CUDA_SUCCESS : CUDA_ERROR_NOT_READY;
}

EXPORT CUresult cuEventCreate(void** out, unsigned) {
    ENTER();
    auto* event = new Event;
    s_events.insert(event);
    *out = event;
    return CUDA_SUCCESS;
}

static Event* event_of(void* handle) {
    auto it = s_events.find((Event*)handle);
    return it == s_events.end() ? nullptr : *it;
}

EXPORT CUresult cuEventDestroy_v2(void* handle) {
    std::lock_guard<std::recursive_mutex> lock(g_lock);
    Event* event = event_of(handle);
    if (!event) return CUDA_ERROR_INVALID_HANDLE;
    s_events.erase(event);
    delete event;
    return g_sticky;
}

EXPORT CUresult cuEventRecord(void* handle, void* stream_handle) {
    ENTER();
    Event* event = event_of(handle);
    Stream* stream = stream_of(stream_handle);
    if (!event || !stream) return CUDA_ERROR_INVALID_HANDLE;
    if (stream->capture) {
        event->capture = stream->capture;
        event->nodes = stream->tail;
        event->marker = nullptr;
        return stream->capture->invalid ? CUDA_ERROR_STREAM_CAPTURE_INVALIDATED : CUDA_SUCCESS;
    }
    if (CUresult e = order_with_legacy(stream)) return e;
    event->capture = nullptr;
    event->marker = mark(stream);
    return CUDA_SUCCESS;
}
EXPORT CUresult cuEventRecordWithFlags(void* event, void* stream, unsigned) { return cuEventRecord(event, stream); }

EXPORT CUresult cuStreamWaitEvent(void* stream_handle, void* handle, unsigned) {
    ENTER();
    Event* event = event_of(handle);
    Stream* stream = stream_of(stream_handle);
    if (!event || !stream) return CUDA_ERROR_INVALID_HANDLE;
    if (event->capture) {
        if (stream->capture && stream->capture != event->capture) {
            stream->capture->invalid = event->capture->invalid = true;
            say("cuStreamWaitEvent joins two captures");
            return CUDA_ERROR_STREAM_CAPTURE_MERGE;
        }
        if (!stream->capture) stream->capture = event->capture, event->capture->members.insert(stream), stream->tail.clear();
        for (size_t node : event->nodes)
            if (std::find(stream->tail.begin(), stream->tail.end(), node) == stream->tail.end()) stream->tail.push_back(node);
        return CUDA_SUCCESS;
    }
    if (stream->capture) {
        if (!event->marker) return CUDA_SUCCESS;
        stream->capture->invalid = true;
        say("cuStreamWaitEvent: a stream under capture waits for an event that was recorded outside of the capture");
        return CUDA_ERROR_STREAM_CAPTURE_ISOLATION;
    }
    if (event->marker && !event->marker->done) push(stream, Op{nullptr, event->marker, nullptr});
    return CUDA_SUCCESS;
}

EXPORT CUresult cuEventSynchronize(void* handle) {
    ENTER();
    Event* event = event_of(handle);
    if (!event) return CUDA_ERROR_INVALID_HANDLE;
    if (event->capture) return event->capture->invalid = true, CUDA_ERROR_CAPTURED_EVENT;
    if (CUresult e = forbid_in_capture("cuEventSynchronize")) return e;
    if (event->marker) force(event->marker);
    return g_sticky;
}

EXPORT CUresult cuEventQuery(void* handle) {
    ENTER();
    Event* event = event_of(handle);
    if (!event) return CUDA_ERROR_INVALID_HANDLE;
    if (event->capture) return event->capture->invalid = true, CUDA_ERROR_CAPTURED_EVENT;
    bool done = !event->marker || step_towards(event->marker);
    if (g_sticky) return g_sticky;
    return done ? CUDA_SUCCESS : CUDA_ERROR_NOT_READY;
}

EXPORT CUresult cuEventElapsedTime_v2(float* ms, void* start, void* end) {
    ENTER();
    Event *a = event_of(start), *b = event_of(end);
    if (!a || !b || !a->marker || !b->marker) return CUDA_ERROR_INVALID_HANDLE;
    if (!a->marker->done || !b->marker->done) return CUDA_ERROR_NOT_READY;
    *ms = float(b->marker->at - a->marker->at);
    return CUDA_SUCCESS;
}
EXPORT CUresult cuEventElapsedTime(float* ms, void* start, void* end) { return cuEventElapsedTime_v2(ms, start, end); }

EXPORT CUresult cuLaunchHostFunc(void* handle, void (*function)(void*), void* data) {
    ENTER();
    Stream* stream = stream_of(handle);
    if (!stream) return CUDA_ERROR_INVALID_HANDLE;
    return submit(stream, "host function", [function, data] {
        t_in_host_func = true;
        function(data);
        t_in_host_func = false;
    });
}

size_t report_handle_leaks() {
    size_t streams = 0;
    for (Stream* s : s_streams) if (s != stream_of((void*)2)) ++streams;
    if (streams) say("leak: %zu streams were never destroyed", streams);
    if (!s_events.empty()) say("leak: %zu events were never destroyed", s_events.size());
    return streams + s_events.size();
}
