// Stands between a program and the C library (LD_PRELOAD): makes a write fail, shifts the wall clock, and
// reports at the end what the process used. Without the variables below it changes nothing.
//
//   INTERPOSE_FOLDER   writes, syncs, renames and removals of files whose path starts with this are counted
//   INTERPOSE_FAIL     N:ERRNO[:on]: the N-th of them fails with that number; with "on" all later ones too
//   INTERPOSE_KILL     N: the process is killed before the N-th of them
//   INTERPOSE_CLOCK    seconds added to the wall clock; with "~" before them, added and subtracted in turn
//   INTERPOSE_REPORT   a file that gets one line from each process: its peak of resident memory in KiB, its
//                      CPU time in ms, and how many writes were counted
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <atomic>
#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <dlfcn.h>
#include <fcntl.h>
#include <sys/resource.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

namespace {

std::atomic<long> writes{0};
std::atomic<long> readings{0};

template <class F> F next(const char *name) { return reinterpret_cast<F>(dlsym(RTLD_NEXT, name)); }

bool below(const char *path) {
    const char *folder = getenv("INTERPOSE_FOLDER");
    return folder != nullptr && strncmp(path, folder, strlen(folder)) == 0;
}

// Whether the file is watched.
bool watched(int fd) {
    if (getenv("INTERPOSE_FOLDER") == nullptr)
        return false;
    char link[40], path[4096];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (length <= 0)
        return false;
    path[length] = 0;
    return below(path);
}

// Counts a change to a watched file and returns whether it must fail; errno is then set.
bool counted_fails(bool counted) {
    if (!counted)
        return false;
    long n = writes.fetch_add(1) + 1;
    const char *last = getenv("INTERPOSE_KILL");
    if (last != nullptr && n == atol(last))
        kill(getpid(), SIGKILL);
    const char *plan = getenv("INTERPOSE_FAIL");
    long at = 0;
    int number = 0;
    if (plan == nullptr || sscanf(plan, "%ld:%d", &at, &number) != 2)
        return false;
    if (n != at && !(n > at && strstr(plan, ":on") != nullptr))
        return false;
    errno = number;
    return true;
}

bool fails(int fd) {
    int before = errno;
    bool counted = watched(fd);
    errno = before;
    return counted_fails(counted);
}

// Only whole paths are compared with the folder.
bool fails(const char *path) { return counted_fails(below(path)); }

long shift() {
    const char *clock = getenv("INTERPOSE_CLOCK");
    if (clock == nullptr)
        return 0;
    bool turns = clock[0] == '~';
    long seconds = atol(clock + turns);
    return turns && readings.fetch_add(1) % 2 == 1 ? -seconds : seconds;
}

__attribute__((destructor)) void report() {
    const char *path = getenv("INTERPOSE_REPORT");
    if (path == nullptr)
        return;
    long peak = 0;
    if (FILE *status = fopen("/proc/self/status", "r")) {
        char line[256];
        while (fgets(line, sizeof line, status) != nullptr)
            sscanf(line, "VmHWM: %ld", &peak);
        fclose(status);
    }
    rusage used;
    getrusage(RUSAGE_SELF, &used);
    long ms = (used.ru_utime.tv_sec + used.ru_stime.tv_sec) * 1000 +
              (used.ru_utime.tv_usec + used.ru_stime.tv_usec) / 1000;
    if (FILE *file = fopen(path, "a")) {
        fprintf(file, "%ld %ld %ld\n", peak, ms, writes.load());
        fclose(file);
    }
}

} // namespace

extern "C" {

ssize_t write(int fd, const void *bytes, size_t count) {
    static auto real = next<ssize_t (*)(int, const void *, size_t)>("write");
    return fails(fd) ? -1 : real(fd, bytes, count);
}

ssize_t writev(int fd, const iovec *parts, int count) {
    static auto real = next<ssize_t (*)(int, const iovec *, int)>("writev");
    return fails(fd) ? -1 : real(fd, parts, count);
}

ssize_t pwrite(int fd, const void *bytes, size_t count, off_t at) {
    static auto real = next<ssize_t (*)(int, const void *, size_t, off_t)>("pwrite");
    return fails(fd) ? -1 : real(fd, bytes, count, at);
}

ssize_t pwrite64(int fd, const void *bytes, size_t count, off64_t at) {
    static auto real = next<ssize_t (*)(int, const void *, size_t, off64_t)>("pwrite64");
    return fails(fd) ? -1 : real(fd, bytes, count, at);
}

int fsync(int fd) {
    static auto real = next<int (*)(int)>("fsync");
    return fails(fd) ? -1 : real(fd);
}

int fdatasync(int fd) {
    static auto real = next<int (*)(int)>("fdatasync");
    return fails(fd) ? -1 : real(fd);
}

int ftruncate(int fd, off_t length) {
    static auto real = next<int (*)(int, off_t)>("ftruncate");
    return fails(fd) ? -1 : real(fd, length);
}

int ftruncate64(int fd, off64_t length) {
    static auto real = next<int (*)(int, off64_t)>("ftruncate64");
    return fails(fd) ? -1 : real(fd, length);
}

int rename(const char *from, const char *to) noexcept {
    static auto real = next<int (*)(const char *, const char *)>("rename");
    return fails(to) ? -1 : real(from, to);
}

int renameat2(int old, const char *from, int folder, const char *to, unsigned flags) noexcept {
    static auto real = next<int (*)(int, const char *, int, const char *, unsigned)>("renameat2");
    return fails(to) ? -1 : real(old, from, folder, to, flags);
}

int unlink(const char *path) noexcept {
    static auto real = next<int (*)(const char *)>("unlink");
    return fails(path) ? -1 : real(path);
}

int clock_gettime(clockid_t clock, timespec *time) {
    static auto real = next<int (*)(clockid_t, timespec *)>("clock_gettime");
    int result = real(clock, time);
    if (result == 0 && clock == CLOCK_REALTIME)
        time->tv_sec += shift();
    return result;
}

int gettimeofday(timeval *__restrict now, void *__restrict zone) noexcept {
    static auto real = next<int (*)(timeval *, void *)>("gettimeofday");
    int result = real(now, zone);
    if (result == 0)
        now->tv_sec += shift();
    return result;
}

time_t time(time_t *out) noexcept {
    static auto real = next<time_t (*)(time_t *)>("time");
    time_t now = real(nullptr) + shift();
    if (out != nullptr)
        *out = now;
    return now;
}
}
