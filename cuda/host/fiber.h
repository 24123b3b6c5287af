// Contexts of execution on their own stacks, and the switch between them.
//
// x86-64 has its own switch: it saves the six registers that calls preserve and takes about 6 ns, where
// swapcontext, which saves the signal mask by a system call, takes 300. Other machines use swapcontext. With
// AddressSanitizer every switch announces the stack it enters.
#pragma once
#include <stddef.h>

#if !defined(__x86_64__)
#define SALA_PORTABLE_SWITCH 1
#endif

#if defined(SALA_PORTABLE_SWITCH)
#include <ucontext.h>
#endif

namespace sala::host {

struct Context {
#if defined(SALA_PORTABLE_SWITCH)
    ucontext_t registers;
#else
    void* stack_pointer = nullptr;
#endif
    void* stack = nullptr;
    size_t stack_bytes = 0;
    void* sanitizer_state = nullptr;
};

// Prepares a context to call `entry`, which never returns, on a stack. `index` staggers the first frames of
// equally aligned stacks, which would otherwise compete for the same lines of the first-level cache.
void prepare(Context& context, void* stack, size_t stack_bytes, int index, void (*entry)());

// Leaves `from` and continues `to`; returns when something switches back to `from`.
void switch_context(Context& from, Context& to);

// The first call in a new context, before anything else; `previous` (the context that entered it) learns the
// bounds of its own stack.
void begin_context(Context& previous);

// Stacks of equal size, each above a page that must not be touched; kept for reuse.
class Stacks {
  public:
    Stacks() = default;
    Stacks(const Stacks&) = delete;
    Stacks& operator=(const Stacks&) = delete;
    ~Stacks();

    // Makes room for `count` stacks; false if the system has no memory for them.
    bool reserve(int count);

    void* stack(int index) const;
    static size_t stack_bytes();

  private:
    void release();

    unsigned char* memory_ = nullptr;
    int count_ = 0;
};

}  // namespace sala::host
