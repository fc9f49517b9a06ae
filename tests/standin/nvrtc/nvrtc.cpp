// Stands in for NVRTC: "compiles" a .cu with the machine's C++ compiler into a shared object, which the stand-in
// driver loads as if it were a cubin. Results are cached beside this library by a hash of all that goes in.
#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <dlfcn.h>
#include <fstream>
#include <iterator>
#include <map>
#include <set>
#include <spawn.h>
#include <string>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#include <vector>

#include "options.hpp"
#include "scan.hpp"

#define EXPORT extern "C" __attribute__((visibility("default")))
extern char** environ;
using std::string;

enum { NVRTC_SUCCESS = 0, NVRTC_ERROR_INVALID_INPUT = 3, NVRTC_ERROR_INVALID_PROGRAM = 4, NVRTC_ERROR_INVALID_OPTION = 5,
       NVRTC_ERROR_COMPILATION = 6, NVRTC_ERROR_NAME_EXPRESSION_NOT_VALID = 10 };
struct Program {
    string name, source, log;
    std::map<string, string> headers;
    std::vector<string> expressions;     // name expressions, in order
    std::map<string, string> lowered;
    std::vector<char> image;
    bool is_virtual = true;              // compiled for compute_XX: there is no cubin
};

// ---- files and processes ----
static string folder() {
    Dl_info info;
    dladdr((void*)&folder, &info);
    string path = info.dli_fname;
    return path.substr(0, path.rfind('/'));
}

static string cache() {
    string path = folder() + "/cache";
    mkdir(path.c_str(), 0777);
    if (access(path.c_str(), W_OK) == 0) return path;
    path = "/tmp/gristmill-standin-" + std::to_string(getuid());
    mkdir(path.c_str(), 0700);
    return path;
}

static string read_file(const string& path) {
    std::ifstream file(path, std::ios::binary);
    return string((std::istreambuf_iterator<char>(file)), {});
}
static void write_file(const string& path, const string& text) { std::ofstream(path, std::ios::binary) << text; }

// The exit status; standard error goes to `log`.
static int run(const std::vector<string>& command, const string& log) {
    std::vector<char*> argv;
    for (auto& word : command) argv.push_back(const_cast<char*>(word.c_str()));
    argv.push_back(nullptr);
    posix_spawn_file_actions_t actions;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_addopen(&actions, 2, log.c_str(), 0x241 /* write, create, truncate */, 0666);
    posix_spawn_file_actions_adddup2(&actions, 2, 1);
    pid_t pid;
    int status = 127, failed = posix_spawnp(&pid, argv[0], &actions, nullptr, argv.data(), environ);
    posix_spawn_file_actions_destroy(&actions);
    if (failed) return write_file(log, command[0] + ": " + std::strerror(failed) + "\n"), 127;
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR) {}
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128;
}

static string hash(const string& text) {
    uint64_t a = 0xcbf29ce484222325, b = 0x9ae16a3b2f90404f;     // FNV-1a, twice
    for (unsigned char c : text) a = (a ^ c) * 0x100000001b3, b = (b ^ c) * 0x100000001b3 + 1;
    char out[40];
    std::snprintf(out, sizeof out, "%016llx%016llx", (unsigned long long)a, (unsigned long long)b);
    return out;
}

static bool checks_all() {
    const char* check = std::getenv("GRISTMILL_STANDIN_CHECK");
    return check && !std::strcmp(check, "full");
}

// ---- compiling ----
static const char* KEYWORDS[] = {
    "-D__global__=__attribute__((visibility(\"default\"),noinline))", "-D__device__=", "-D__host__=", "-D__shared__=thread_local",
    "-D__constant__=__attribute__((visibility(\"default\")))", "-D__forceinline__=inline __attribute__((always_inline))",
    "-D__noinline__=__attribute__((noinline))", "-D__launch_bounds__(...)=", "-D__cluster_dims__(...)=", "-D__maxnreg__(...)=",
    "-D__grid_constant__=", "-D__align__(n)=__attribute__((aligned(n)))", "-D__builtin_align__(n)=__attribute__((aligned(n)))"};

static string registration(const Program& p, const std::vector<Kernel>& kernels, const string& key, unsigned arch, bool dynamic) {
    string text = read_file(folder() + "/include/standin_kernel.h") + "\nstatic const standin_entry standin_entries[] = {\n";
    size_t count = kernels.size() + p.expressions.size();
    for (auto& k : kernels) text += "STANDIN_KERNEL(" + k.name + ", \"" + k.name + "\", " + k.bound + ")\n";
    for (size_t i = 0; i < p.expressions.size(); ++i)
        text += "{\"standin_lowered_" + std::to_string(i) + "_" + key.substr(0, 12) + "\", standin_call<" + p.expressions[i] + ">, standin_signature<decltype(+(" +
                p.expressions[i] + "))>::sizes, standin_signature<decltype(+(" + p.expressions[i] + "))>::count, 1024},\n";
    text += "{nullptr, nullptr, nullptr, 0, 0}};\n";
    text += "extern \"C\" __attribute__((visibility(\"hidden\"))) thread_local unsigned char standin_dynamic_shared[];\n"
                         "static void* standin_dynamic() { return standin_dynamic_shared; }\n";
    return text + "extern \"C\" __attribute__((visibility(\"default\"))) const standin_unit_table standin_unit{1, " + std::to_string(count) + ", " +
           std::to_string(arch) + ", " + (checks_all() ? "1" : "0") + ", standin_entries, " + std::to_string(dynamic ? DYNAMIC_SHARED : 0) + ", standin_dynamic};\n";
}

static int compile(Program& p, const Options& o) {
    bool full = checks_all();
    const char* chosen = std::getenv("CXX");
    string cxx = chosen && *chosen ? chosen : "g++";
    string work_template = cache() + "/compile-XXXXXX";
    string work = mkdtemp(work_template.data());
    string log_path = work + "/log";
    auto finish = [&](int code) {
        p.log += read_file(log_path);
        if (code == NVRTC_SUCCESS || !std::getenv("GRISTMILL_STANDIN_KEEP")) run({"rm", "-rf", work}, "/dev/null");
        return code;
    };
    write_file(work + "/unit.cu", "# 1 \"" + p.name + "\"\n" + p.source);
    for (auto& [name, text] : p.headers) {
        for (size_t slash = name.find('/'); slash != string::npos; slash = name.find('/', slash + 1)) mkdir((work + "/" + name.substr(0, slash)).c_str(), 0777);
        write_file(work + "/" + name, text);
    }
    unsigned number = o.arch % 1000;
    std::vector<string> first = {cxx, "-E", "-x", "c++", o.standard, "-nostdinc", "-nostdinc++", "-U__SSE__", "-include", folder() + "/include/cuda_standin.h",
        "-I" + work, "-I" + folder() + "/include", "-D__CUDA_ARCH__=" + std::to_string(number * 10)};
    if (o.arch >= 1000 && o.arch < 2000) first.push_back("-D__CUDA_ARCH_FEAT_SM" + std::to_string(number) + "_ALL=1");
    first.insert(first.end(), o.preprocess.begin(), o.preprocess.end());
    first.insert(first.end(), {work + "/unit.cu", "-o", work + "/unit.ii"});
    if (run(first, log_path)) return finish(NVRTC_ERROR_COMPILATION);

    string text = read_file(work + "/unit.ii");
    for (size_t at; (at = text.find(work)) != string::npos;) text.erase(at, work.size() + 1);     // the temporary folder's name is no input
    std::vector<string> flags = {"-O2", "-shared", "-fPIC", o.standard, "-ffp-contract=off", "-fno-math-errno", "-fno-trapping-math",
        "-fno-strict-aliasing", "-fno-exceptions", "-fno-rtti", "-fno-threadsafe-statics", "-fno-gnu-unique", "-fno-extern-tls-init",
        "-fvisibility=hidden", "-fno-semantic-interposition", "-g1", "-w", "-fsanitize=alignment"};
#if defined(__x86_64__)
    if (__builtin_cpu_supports("fma") && __builtin_cpu_supports("avx2")) flags.insert(flags.end(), {"-mfma", "-mavx2", "-mf16c"});
#endif
    if (full) flags.insert(flags.end(), {"-fsanitize=thread", "--param", "tsan-instrument-func-entry-exit=0"});
    flags.insert(flags.end(), std::begin(KEYWORDS), std::end(KEYWORDS));
    string input = text + std::to_string(o.arch) + "|" + cxx;
    for (auto& f : flags) input += "|" + f;
    for (auto& e : p.expressions) input += "|" + e;
    string key = hash(input), result = cache() + "/" + key + ".so";
    for (size_t i = 0; i < p.expressions.size(); ++i) p.lowered[p.expressions[i]] = "standin_lowered_" + std::to_string(i) + "_" + key.substr(0, 12);
    p.is_virtual = o.arch >= 2000;
    string image = read_file(result);
    if (image.empty()) {
        auto words = tokens(text);
        auto kernels = find_kernels(words);
        auto dynamic = find_dynamic_shared(words);
        write_file(work + "/unit.ii", text + "\n# 1 \"standin\"\n" + registration(p, kernels, key, o.arch, !dynamic.empty()));
        write_file(work + "/dynamic.s", dynamic_shared_assembly(dynamic));
        std::vector<string> second = {cxx};
        second.insert(second.end(), flags.begin(), flags.end());
        second.insert(second.end(), {"-x", "c++", work + "/unit.ii"});
        // -nostdlib also leaves out the sanitizer's runtime, whose place the stand-in driver takes.
        second.insert(second.end(), {"-x", "assembler", work + "/dynamic.s", "-nostdlib", "-L" + folder(), "-l:libcuda.so", "-lm", "-lc", "-Wl,-Bsymbolic", "-o", work + "/unit.so"});
        if (run(second, log_path)) return finish(NVRTC_ERROR_COMPILATION);
        std::rename((work + "/unit.so").c_str(), result.c_str());
        image = read_file(result);
    }
    p.image.assign(image.begin(), image.end());
    return finish(NVRTC_SUCCESS);
}

// ---- the interface ----
// A version that no real NVRTC has, another one for each build of the stand-in and for each way of checking: whoever
// caches cubins by version never takes one for the other.
EXPORT int nvrtcVersion(int* major, int* minor) {
    *major = 12;
    *minor = 1000 + int(std::stoul(hash(folder()).substr(0, 6), nullptr, 16)) * 2 + checks_all();
    return NVRTC_SUCCESS;
}
EXPORT int nvrtcGetNumSupportedArchs(int* n) { return *n = 5, NVRTC_SUCCESS; }
EXPORT int nvrtcGetSupportedArchs(int* archs) {
    const int all[] = {80, 89, 90, 100, 120};
    std::copy(std::begin(all), std::end(all), archs);
    return NVRTC_SUCCESS;
}
EXPORT const char* nvrtcGetErrorString(int code) {
    static const char* names[] = {"NVRTC_SUCCESS", "NVRTC_ERROR_OUT_OF_MEMORY", "NVRTC_ERROR_PROGRAM_CREATION_FAILURE", "NVRTC_ERROR_INVALID_INPUT",
        "NVRTC_ERROR_INVALID_PROGRAM", "NVRTC_ERROR_INVALID_OPTION", "NVRTC_ERROR_COMPILATION"};
    return code >= 0 && code < 7 ? names[code] : "NVRTC error";
}
// GRISTMILL_STANDIN_PATCH: "this => that" replaces text in every source, to plant a fault in a real kernel.
static string patched(string text) {
    const char* patch = getenv("GRISTMILL_STANDIN_PATCH");
    const string whole = patch ? patch : "", arrow = " => ";
    const size_t middle = whole.find(arrow);
    if (middle == string::npos || middle == 0) return text;
    const string from = whole.substr(0, middle), to = whole.substr(middle + arrow.size());
    for (size_t at = 0; (at = text.find(from, at)) != string::npos; at += to.size()) text.replace(at, from.size(), to);
    return text;
}

EXPORT int nvrtcCreateProgram(Program** out, const char* source, const char* name, int count, const char** headers, const char** names) {
    if (!out || !source) return NVRTC_ERROR_INVALID_INPUT;
    auto* p = new Program;
    p->source = patched(source);
    p->name = name ? name : "default_program";
    for (int i = 0; i < count; ++i) p->headers[names[i]] = patched(headers[i]);
    *out = p;
    return NVRTC_SUCCESS;
}
EXPORT int nvrtcDestroyProgram(Program** p) {
    if (!p || !*p) return NVRTC_ERROR_INVALID_PROGRAM;
    delete *p;
    *p = nullptr;
    return NVRTC_SUCCESS;
}
EXPORT int nvrtcAddNameExpression(Program* p, const char* expression) { return p->expressions.push_back(expression), NVRTC_SUCCESS; }
EXPORT int nvrtcGetLoweredName(Program* p, const char* expression, const char** name) {
    auto it = p->lowered.find(expression);
    if (it == p->lowered.end()) return NVRTC_ERROR_NAME_EXPRESSION_NOT_VALID;
    *name = it->second.c_str();
    return NVRTC_SUCCESS;
}
EXPORT int nvrtcCompileProgram(Program* p, int count, const char** options) {
    if (!p) return NVRTC_ERROR_INVALID_PROGRAM;
    Options o;
    p->log.clear();
    return parse(std::vector<string>(options, options + count), o, p->log) ? compile(*p, o) : NVRTC_ERROR_INVALID_OPTION;
}
EXPORT int nvrtcGetProgramLogSize(Program* p, size_t* size) { return *size = p->log.size() + 1, NVRTC_SUCCESS; }
EXPORT int nvrtcGetProgramLog(Program* p, char* log) { return std::memcpy(log, p->log.c_str(), p->log.size() + 1), NVRTC_SUCCESS; }
EXPORT int nvrtcGetCUBINSize(Program* p, size_t* size) { return *size = p->is_virtual ? 0 : p->image.size(), NVRTC_SUCCESS; }
EXPORT int nvrtcGetCUBIN(Program* p, char* out) {
    if (!p->is_virtual) std::copy(p->image.begin(), p->image.end(), out);
    return NVRTC_SUCCESS;
}
EXPORT int nvrtcGetPTXSize(Program* p, size_t* size) { return *size = p->image.size(), NVRTC_SUCCESS; }
EXPORT int nvrtcGetPTX(Program* p, char* out) { return std::copy(p->image.begin(), p->image.end(), out), NVRTC_SUCCESS; }
