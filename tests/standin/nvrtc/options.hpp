// The options of NVRTC, as the compiler of the stand-in takes them.
#pragma once
#include <algorithm>
#include <cstdio>
#include <iterator>
#include <string>
#include <vector>

using std::string;

struct Options { std::vector<string> preprocess; string standard = "-std=c++17"; unsigned arch = 2052; };   // 80: sm_80, 1090: sm_90a, 2052: compute_52

static bool parse_arch(const string& value, unsigned& arch) {
    unsigned number = 0;
    char letter = 0;
    bool is_virtual = value.rfind("compute_", 0) == 0;
    if (std::sscanf(value.c_str(), is_virtual ? "compute_%u%c" : "sm_%u%c", &number, &letter) < 1) return false;
    arch = number + (is_virtual ? 2000 : letter == 'a' ? 1000 : 0);
    return number >= 50;
}

static bool parse(const std::vector<string>& given, Options& o, string& log) {
    static const char* ignored[] = {"-default-device", "--device-as-default-execution-space", "-lineinfo", "--generate-line-info",
        "-use_fast_math", "--use_fast_math", "-dlto", "-G", "--device-debug", "-extra-device-vectorization", "--extra-device-vectorization",
        "--minimal", "-minimal", "-w", "--disable-warnings", "-restrict", "--restrict"};
    static const char* ignored_values[] = {"--fmad", "-fmad", "--ftz", "-ftz", "--prec-div", "-prec-div", "--prec-sqrt", "-prec-sqrt",
        "--maxrregcount", "-maxrregcount", "--ptxas-options", "-Xptxas", "--split-compile", "-split-compile", "--diag-suppress", "-diag-suppress"};
    for (size_t i = 0; i < given.size(); ++i) {
        string option = given[i], name = option, value;
        size_t equals = option.find('=');
        bool has_value = equals != string::npos;
        if (has_value) name = option.substr(0, equals), value = option.substr(equals + 1);
        auto take = [&] { if (!has_value && i + 1 < given.size()) value = given[++i]; return value; };
        if (name == "-D" || name == "--define-macro") o.preprocess.push_back("-D" + take());
        else if (name == "-U" || name == "--undefine-macro") o.preprocess.push_back("-U" + take());
        else if (name == "-I" || name == "--include-path") o.preprocess.push_back("-I" + take());
        else if (option.rfind("-D", 0) == 0 || option.rfind("-I", 0) == 0 || option.rfind("-U", 0) == 0) o.preprocess.push_back(option);
        else if (name == "-std" || name == "--std") o.standard = "-std=" + take();
        else if (name == "-arch" || name == "--gpu-architecture") {
            if (!parse_arch(take(), o.arch)) return log = "nvrtc: error: invalid value for --gpu-architecture (-arch)\n", false;
        } else if (std::any_of(std::begin(ignored), std::end(ignored), [&](const char* s) { return option == s; })) {
        } else if (std::any_of(std::begin(ignored_values), std::end(ignored_values), [&](const char* s) { return name == s; })) take();
        else return log = "nvrtc: error: unrecognized option " + option + " found\n", false;
    }
    return true;
}
