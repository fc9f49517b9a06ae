// Stands between a program and the C library (LD_PRELOAD): makes a write fail, changes, fails or delays a read,
// shifts the wall clock, and reports at the end what the process used. Without the variables below it changes nothing.
//
//   INTERPOSE_FOLDER   writes, syncs, renames and removals of files whose path starts with this are counted
//   INTERPOSE_FAIL     N:ERRNO[:on]: the N-th of them fails with that number; with "on" all later ones too
//   INTERPOSE_KILL     N: the process is killed before the N-th of them
//   INTERPOSE_READS    looks at, opens and reads of files whose path starts with this are points, counted from 1
//   INTERPOSE_COUNTER  a file of 8 zero bytes: the points of all processes, which go on counting where another ended
//   INTERPOSE_POINT    N[:M]: just before the N-th point, something happens, and just before the M-th it is undone
//   INTERPOSE_ACT      what happens: fail:ERRNO, or fails:ERRNO for all points from N on; short (a read of one byte);
//                      wait:MS; exchange:A:B (two files change their names); overwrite:A:B:C (A gets the bytes of B,
//                      and later those of C)
//   INTERPOSE_CLOCK    seconds added to the wall clock; with "~" before them, added and subtracted in turn
//   INTERPOSE_REPORT   a file that gets one line from each process: its peak of resident memory in KiB, its
//                      CPU time in ms, and how many writes were counted
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <atomic>
#include <cerrno>
#include <csignal>
#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <dlfcn.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

namespace {

std::atomic<long> writes{0};
std::atomic<long> readings{0};

template <class F> F next(const char *name) { return reinterpret_cast<F>(dlsym(RTLD_NEXT, name)); }

bool below(const char *path, const char *variable) {
    const char *folder = getenv(variable);
    return folder != nullptr && path != nullptr && strncmp(path, folder, strlen(folder)) == 0;
}

// Whether the file is below the folder that the variable names.
bool watched(int fd, const char *variable = "INTERPOSE_FOLDER") {
    if (getenv(variable) == nullptr)
        return false;
    char link[40], path[4096];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (length <= 0)
        return false;
    path[length] = 0;
    return below(path, variable);
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
bool fails(const char *path) { return counted_fails(below(path, "INTERPOSE_FOLDER")); }

bool watched(const char *path) { return below(path, "INTERPOSE_READS"); }

std::atomic<long> *counter() {
    static std::atomic<long> *shared = [] {
        const char *path = getenv("INTERPOSE_COUNTER");
        static std::atomic<long> own{0};
        int fd = path == nullptr ? -1 : static_cast<int>(syscall(SYS_open, path, O_RDWR | O_CLOEXEC));
        if (fd < 0)
            return &own;
        void *map = mmap(nullptr, sizeof(long), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
        close(fd);
        return map == MAP_FAILED ? &own : static_cast<std::atomic<long> *>(map);
    }();
    return shared;
}

// Gives a file the bytes of another, in place.
void overwrite(const char *to, const char *from) {
    int in = static_cast<int>(syscall(SYS_open, from, O_RDONLY | O_CLOEXEC));
    int out = static_cast<int>(syscall(SYS_open, to, O_WRONLY | O_TRUNC | O_CLOEXEC));
    static char bytes[1 << 16];
    for (long n; (n = syscall(SYS_read, in, bytes, sizeof bytes)) > 0;)
        syscall(SYS_write, out, bytes, n);
    syscall(SYS_close, in);
    syscall(SYS_close, out);
}

enum Act { PASS, FAIL, SHORT };

// Counts a point, and does what is to be done there. FAIL: errno is set.
Act point() {
    int before = errno;
    long n = counter()->fetch_add(1) + 1, at = 0, back = 0;
    const char *when = getenv("INTERPOSE_POINT"), *what = getenv("INTERPOSE_ACT");
    errno = before;
    if (when == nullptr || what == nullptr || sscanf(when, "%ld:%ld", &at, &back) < 1)
        return PASS;
    int number = 0;
    char a[1024], b[1024], c[1024];
    if (sscanf(what, "fail:%d", &number) == 1 || sscanf(what, "fails:%d", &number) == 1) {
        if (n != at && !(n > at && what[4] == 's'))
            return PASS;
        errno = number;
        return FAIL;
    }
    if (n != at && n != back)
        return PASS;
    if (strcmp(what, "short") == 0)
        return n == at ? SHORT : PASS;
    if (sscanf(what, "wait:%d", &number) == 1)
        usleep(number * 1000);
    else if (sscanf(what, "exchange:%1023[^:]:%1023[^:]", a, b) == 2)
        syscall(SYS_renameat2, AT_FDCWD, a, AT_FDCWD, b, RENAME_EXCHANGE);
    else if (sscanf(what, "overwrite:%1023[^:]:%1023[^:]:%1023[^:]", a, b, c) == 3)
        overwrite(a, n == at ? b : c);
    errno = before;
    return PASS;
}

// A read of a watched file.
Act reads(int fd) {
    int before = errno;
    bool counted = watched(fd, "INTERPOSE_READS");
    errno = before;
    return counted ? point() : PASS;
}

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

ssize_t read(int fd, void *bytes, size_t count) {
    static auto real = next<ssize_t (*)(int, void *, size_t)>("read");
    Act act = reads(fd);
    return act == FAIL ? -1 : real(fd, bytes, act == SHORT && count > 0 ? 1 : count);
}

ssize_t pread(int fd, void *bytes, size_t count, off_t at) {
    static auto real = next<ssize_t (*)(int, void *, size_t, off_t)>("pread");
    Act act = reads(fd);
    return act == FAIL ? -1 : real(fd, bytes, act == SHORT && count > 0 ? 1 : count, at);
}

ssize_t pread64(int fd, void *bytes, size_t count, off64_t at) {
    static auto real = next<ssize_t (*)(int, void *, size_t, off64_t)>("pread64");
    Act act = reads(fd);
    return act == FAIL ? -1 : real(fd, bytes, act == SHORT && count > 0 ? 1 : count, at);
}

int open(const char *path, int flags, ...) {
    static auto real = next<int (*)(const char *, int, mode_t)>("open");
    va_list more;
    va_start(more, flags);
    mode_t mode = va_arg(more, mode_t);
    va_end(more);
    return watched(path) && point() == FAIL ? -1 : real(path, flags, mode);
}

int open64(const char *path, int flags, ...) {
    static auto real = next<int (*)(const char *, int, mode_t)>("open64");
    va_list more;
    va_start(more, flags);
    mode_t mode = va_arg(more, mode_t);
    va_end(more);
    return watched(path) && point() == FAIL ? -1 : real(path, flags, mode);
}

int statx(int folder, const char *__restrict path, int flags, unsigned mask, struct statx *__restrict found) noexcept {
    static auto real = next<int (*)(int, const char *, int, unsigned, struct statx *)>("statx");
    // Null in a call that only asks whether there is such a call, which the compiler is told cannot be.
    const char *volatile given = path;
    bool counted = given == nullptr ? false : *given != 0 ? watched(path) : watched(folder, "INTERPOSE_READS");
    return counted && point() == FAIL ? -1 : real(folder, path, flags, mask, found);
}

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
