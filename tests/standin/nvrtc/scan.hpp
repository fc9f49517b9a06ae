// What a preprocessed unit declares: its kernels with their launch bounds, and its dynamic shared memory.
#pragma once
#include <algorithm>
#include <set>
#include <string>
#include <vector>

using std::string;
static constexpr size_t DYNAMIC_SHARED = 227 * 1024;

struct Kernel { string name, bound; };

static std::vector<string> tokens(const string& text) {
    std::vector<string> out;
    auto word = [](char c) { return isalnum((unsigned char)c) || c == '_' || c == '$'; };
    for (size_t i = 0; i < text.size();) {
        char c = text[i];
        if (isspace((unsigned char)c)) { ++i; continue; }
        if (c == '#' && (i == 0 || text[i - 1] == '\n')) { i = std::min(text.find('\n', i), text.size()); continue; }
        size_t end = i + 1;
        if (word(c)) while (end < text.size() && word(text[end])) ++end;
        else if (c == '"' || c == '\'') {
            while (end < text.size() && text[end] != c) end += text[end] == '\\' ? 2 : 1;
            ++end;
        }
        out.push_back(text.substr(i, end - i));
        i = end;
    }
    return out;
}

static size_t past_parenthesis(const std::vector<string>& t, size_t i) {
    int depth = 0;
    for (; i < t.size(); ++i) {
        if (t[i] == "(") ++depth;
        if (t[i] == ")" && --depth == 0) return i + 1;
    }
    return i;
}

// Definitions `__global__ void name(...) {` outside of templates; their launch bound as text.
static std::vector<Kernel> find_kernels(const std::vector<string>& t) {
    std::vector<Kernel> kernels;
    std::set<string> seen;
    size_t statement = 0;
    for (size_t i = 0; i < t.size(); ++i) {
        if (t[i] == ";" || t[i] == "{" || t[i] == "}") statement = i + 1;
        if (t[i] != "__global__") continue;
        bool is_template = std::find(t.begin() + statement, t.begin() + i, "template") != t.begin() + i;
        string bound = "1024";
        size_t j = i + 1;
        for (; j < t.size() && !(j + 1 < t.size() && t[j + 1] == "(" && t[j] != "__launch_bounds__" && t[j] != "__attribute__" &&
                                 t[j] != "__cluster_dims__" && t[j] != "__maxnreg__" && t[j] != "__block_size__"); ) {
            if (j + 1 < t.size() && t[j + 1] == "(") {
                size_t end = past_parenthesis(t, j + 1);
                if (t[j] == "__launch_bounds__") {
                    bound.clear();
                    int depth = 0;
                    for (size_t k = j + 2; k + 1 < end && !(depth == 0 && t[k] == ","); ++k) {
                        depth += t[k] == "(" ? 1 : t[k] == ")" ? -1 : 0;
                        bound += t[k] + " ";
                    }
                }
                j = end;
            } else {
                ++j;
            }
        }
        size_t body = past_parenthesis(t, j + 1);
        if (!is_template && body < t.size() && t[body] == "{" && seen.insert(t[j]).second) kernels.push_back({t[j], bound});
    }
    return kernels;
}

// `extern __shared__ T name[];` at any scope: all such names are one address. Units without any have a small array all
// the same: touching it makes the thread-local segment exist.
static std::set<string> find_dynamic_shared(const std::vector<string>& t) {
    std::set<string> names;
    for (size_t i = 0; i + 1 < t.size(); ++i) {
        if (t[i] != "extern") continue;
        bool shared = false;
        for (size_t j = i + 1; j < t.size() && t[j] != ";" && t[j] != "{"; ++j) {
            shared |= t[j] == "__shared__";
            if (t[j] == "[" && t[j + 1] == "]" && shared) names.insert(t[j - 1]);
        }
    }
    return names;
}

static string dynamic_shared_assembly(const std::set<string>& names) {
    string labels = "standin_dynamic_shared:\n", text = ".section .tbss,\"awT\",@nobits\n.balign " + string(names.empty() ? "16" : "1024") + "\n";
    for (auto& name : names) {
        text += ".globl " + name + "\n.hidden " + name + "\n.type " + name + ",@tls_object\n";
        labels += name + ":\n";
    }
    text += ".globl standin_dynamic_shared\n.hidden standin_dynamic_shared\n.type standin_dynamic_shared,@tls_object\n";
    return text + labels + ".zero " + std::to_string(names.empty() ? 16 : DYNAMIC_SHARED) + "\n.section .note.GNU-stack,\"\",@progbits\n";
}
