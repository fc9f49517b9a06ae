// Appended to every unit: how the driver finds and calls its kernels (driver/module.cpp reads `standin_unit`).
template <unsigned... I> struct standin_indices {};
template <unsigned N> struct standin_first { using type = standin_indices<__integer_pack(N)...>; };
template <class F> struct standin_signature;
template <class... A> struct standin_signature<void (*)(A...)> {
    static constexpr unsigned count = sizeof...(A);
    static constexpr size_t sizes[sizeof...(A) + 1] = {sizeof(A)..., 0};
    template <void (*F)(A...), unsigned... I>
    __attribute__((no_sanitize("thread"))) static void call(void** args, standin_indices<I...>) { F(*(A*)args[I]...); }
};
template <auto F> __attribute__((no_sanitize("thread"))) void standin_call(void** args) {
    using S = standin_signature<decltype(F)>;
    S::template call<F>(args, typename standin_first<S::count>::type{});
}
struct standin_entry { const char* name; void (*call)(void**); const size_t* sizes; unsigned count, max_threads; };
struct standin_unit_table {
    unsigned version, count, arch, full;
    const standin_entry* entries;
    size_t dynamic_capacity;
    void* (*dynamic_base)();
};
#define STANDIN_KERNEL(kernel, name, max_threads) \
    {name, standin_call<kernel>, standin_signature<decltype(kernel)*>::sizes, standin_signature<decltype(kernel)*>::count, unsigned(max_threads)},
