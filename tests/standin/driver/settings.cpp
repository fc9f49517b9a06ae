// Settings of the stand-in, read from the environment once, and its voice on stderr.
#include "driver.hpp"
#include <algorithm>
#include <cstdarg>
#include <cstdlib>
#include <cstring>

static size_t bytes_of(const char* text, size_t otherwise) {
    if (!text || !*text) return otherwise;
    char* end = nullptr;
    double n = std::strtod(text, &end);
    switch (*end) {
    case 'G': case 'g': n *= 1024.0 * 1024 * 1024; break;
    case 'M': case 'm': n *= 1024.0 * 1024; break;
    case 'K': case 'k': n *= 1024.0; break;
    default: break;
    }
    return n > 0 ? (size_t)n : otherwise;
}

static Settings read() {
    auto get = [](const char* name) { const char* v = std::getenv(name); return v ? v : ""; };
    Settings s{};
    s.full = !std::strcmp(get("GRISTMILL_STANDIN_CHECK"), "full");
    std::string schedule = get("GRISTMILL_STANDIN_SCHEDULE");
    s.eager = schedule == "eager";
    s.seeded = !schedule.empty() && schedule != "eager" && schedule != "lazy";
    s.seed = s.seeded ? std::strtoull(schedule.c_str(), nullptr, 10) : 0;
    s.memory = bytes_of(get("GRISTMILL_STANDIN_MEMORY"), size_t(512) << 20);
    int arch = std::atoi(get("GRISTMILL_STANDIN_ARCH"));
    s.arch = arch > 0 ? arch : 80;
    int threads = std::atoi(get("GRISTMILL_STANDIN_THREADS"));
    s.threads = threads > 0 ? threads : std::clamp(std::thread::hardware_concurrency(), 1u, 8u);
    s.abort_on_leak = std::strcmp(get("GRISTMILL_STANDIN_LEAKS"), "report") != 0;
    std::string fail = get("GRISTMILL_STANDIN_FAIL");
    size_t at = fail.find('@'), colon = fail.find(':');
    if (at != std::string::npos && colon != std::string::npos && at < colon) {
        s.failing = fail.substr(0, at);
        s.fails_at = std::atol(fail.c_str() + at + 1);
        s.fails_with = std::atoi(fail.c_str() + colon + 1);
    }
    return s;
}

const Settings& settings() {
    static const Settings s = read();
    return s;
}

void say(const char* format, ...) {
    char line[2048];
    va_list args;
    va_start(args, format);
    std::vsnprintf(line, sizeof line, format, args);
    va_end(args);
    std::fprintf(stderr, "gristmill-standin: %s\n", line);
    std::fflush(stderr);
}
