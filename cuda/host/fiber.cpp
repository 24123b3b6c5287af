#include "host/fiber.h"

#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif

namespace sala::host {

namespace {

constexpr size_t GUARD_BYTES = 4096;
constexpr size_t CACHE_LINE = 64;

// A step of 9 lines visits all 64 sets of the first-level cache and keeps neighbours apart.
constexpr int STAGGER_LINES = 9;
constexpr int STAGGER_SETS = 64;

size_t staggered_bytes(size_t stack_bytes, int index) {
    return stack_bytes - CACHE_LINE - static_cast<size_t>(index * STAGGER_LINES % STAGGER_SETS) * CACHE_LINE;
}

}  // namespace

#if defined(SALA_PORTABLE_SWITCH)

static void transfer(Context& from, Context& to) { swapcontext(&from.registers, &to.registers); }

static void prepare_registers(Context& context, int index, void (*entry)()) {
    getcontext(&context.registers);
    context.registers.uc_stack.ss_sp = context.stack;
    context.registers.uc_stack.ss_size = staggered_bytes(context.stack_bytes, index);
    context.registers.uc_link = nullptr;
    makecontext(&context.registers, entry, 0);
}

#else

extern "C" void sala_host_transfer(void** saved_stack_pointer, void* stack_pointer);

asm(R"(
.text
.globl sala_host_transfer
.hidden sala_host_transfer
.type sala_host_transfer, @function
sala_host_transfer:
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
.size sala_host_transfer, . - sala_host_transfer
)");

static void transfer(Context& from, Context& to) { sala_host_transfer(&from.stack_pointer, to.stack_pointer); }

static void prepare_registers(Context& context, int index, void (*entry)()) {
    constexpr int SAVED_REGISTERS = 6;
    const uintptr_t top = reinterpret_cast<uintptr_t>(context.stack) + staggered_bytes(context.stack_bytes, index);
    void** frame = reinterpret_cast<void**>(top);
    *--frame = nullptr;  // the return address of `entry`, which keeps the stack aligned as after a call
    *--frame = reinterpret_cast<void*>(entry);
    for (int i = 0; i < SAVED_REGISTERS; ++i) *--frame = nullptr;
    context.stack_pointer = frame;
}

#endif

void prepare(Context& context, void* stack, size_t stack_bytes, int index, void (*entry)()) {
    context.stack = stack;
    context.stack_bytes = stack_bytes;
    context.sanitizer_state = nullptr;
#if defined(__SANITIZE_ADDRESS__)
    __asan_unpoison_memory_region(stack, stack_bytes);
#endif
    prepare_registers(context, index, entry);
}

void switch_context(Context& from, Context& to) {
#if defined(__SANITIZE_ADDRESS__)
    __sanitizer_start_switch_fiber(&from.sanitizer_state, to.stack, to.stack_bytes);
#endif
    transfer(from, to);
#if defined(__SANITIZE_ADDRESS__)
    __sanitizer_finish_switch_fiber(from.sanitizer_state, nullptr, nullptr);
#endif
}

void begin_context([[maybe_unused]] Context& previous) {
#if defined(__SANITIZE_ADDRESS__)
    const void* stack;
    size_t bytes;
    __sanitizer_finish_switch_fiber(nullptr, &stack, &bytes);
    if (previous.stack == nullptr) {
        previous.stack = const_cast<void*>(stack);
        previous.stack_bytes = bytes;
    }
#endif
}

Stacks::~Stacks() { release(); }

void Stacks::release() {
    if (memory_ != nullptr) munmap(memory_, static_cast<size_t>(count_) * (GUARD_BYTES + stack_bytes()));
    memory_ = nullptr;
    count_ = 0;
}

// Only the pages that a stack touches take memory.
size_t Stacks::stack_bytes() {
#if defined(__SANITIZE_ADDRESS__)
    return 256 * 1024;
#else
    return 128 * 1024;
#endif
}

bool Stacks::reserve(int count) {
    if (count <= count_) return true;
    release();
    const size_t pitch = GUARD_BYTES + stack_bytes();
    void* memory =
        mmap(nullptr, static_cast<size_t>(count) * pitch, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory == MAP_FAILED) return false;
    memory_ = static_cast<unsigned char*>(memory);
    count_ = count;
    for (int i = 0; i < count; ++i) mprotect(memory_ + static_cast<size_t>(i) * pitch, GUARD_BYTES, PROT_NONE);
    return true;
}

void* Stacks::stack(int index) const { return memory_ + static_cast<size_t>(index) * (GUARD_BYTES + stack_bytes()) + GUARD_BYTES; }

}  // namespace sala::host
