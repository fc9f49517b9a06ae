// Switching between fibers. On x86-64 six registers and the stack pointer; elsewhere, or with STANDIN_UCONTEXT, ucontext.
#include "block.hpp"
#include <cstdlib>

#if defined(__x86_64__) && !defined(STANDIN_UCONTEXT)
extern "C" void standin_switch(void** save, void* load);
asm(R"(
.text
.globl standin_switch
.hidden standin_switch
.type standin_switch,@function
standin_switch:
    pushq %rbp
    pushq %rbx
    pushq %r12
    pushq %r13
    pushq %r14
    pushq %r15
    movq %rsp, (%rdi)
    movq %rsi, %rsp
    popq %r15
    popq %r14
    popq %r13
    popq %r12
    popq %rbx
    popq %rbp
    ret
.size standin_switch,.-standin_switch
)");

void switch_context(Context& from, Context& to) { standin_switch(&from.sp, to.sp); }

void start_context(Context& context, uintptr_t stack_lo, size_t bytes, void (*entry)()) {
    auto* top = reinterpret_cast<void**>((stack_lo + bytes) & ~uintptr_t(15));
    *--top = nullptr;                       // entry sees the alignment of a called function
    *--top = reinterpret_cast<void*>(entry);
    for (int i = 0; i < 6; ++i) *--top = nullptr;
    context.sp = top;
}
#else
void switch_context(Context& from, Context& to) { swapcontext(&from.context, &to.context); }

void start_context(Context& context, uintptr_t stack_lo, size_t bytes, void (*entry)()) {
    getcontext(&context.context);
    context.context.uc_stack.ss_sp = (void*)stack_lo;
    context.context.uc_stack.ss_size = bytes;
    context.context.uc_link = nullptr;
    makecontext(&context.context, entry, 0);
}
#endif
