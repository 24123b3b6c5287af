// What -fsanitize=thread makes the race build's kernels call at every plain access to memory. The program is
// not linked with the compiler's own runtime: these hooks pass accesses to the running block's shared memory
// on to the race detector and ignore all others.
#include <stddef.h>
#include <string.h>

#include "host/scheduler.h"
#include "host/shared_memory.h"

namespace sala::host {

static void observe(const void* pointer, size_t bytes, Access kind, const void* instruction) {
    Block* block = running;
    if (block == nullptr || block->race == nullptr || bytes == 0 || !is_shared(*block, pointer)) return;
    maybe_preempt();
    block->race->access(block->current->thread, pointer, static_cast<uint32_t>(bytes), kind, AccessSite::instruction(instruction));
}

}  // namespace sala::host

#define SALA_HOOK(name, bytes, kind) \
    void name(void* pointer) { sala::host::observe(pointer, bytes, sala::host::Access::kind, __builtin_return_address(0)); }

extern "C" {

SALA_HOOK(__tsan_read1, 1, READ)
SALA_HOOK(__tsan_read2, 2, READ)
SALA_HOOK(__tsan_read4, 4, READ)
SALA_HOOK(__tsan_read8, 8, READ)
SALA_HOOK(__tsan_read16, 16, READ)
SALA_HOOK(__tsan_write1, 1, WRITE)
SALA_HOOK(__tsan_write2, 2, WRITE)
SALA_HOOK(__tsan_write4, 4, WRITE)
SALA_HOOK(__tsan_write8, 8, WRITE)
SALA_HOOK(__tsan_write16, 16, WRITE)
SALA_HOOK(__tsan_unaligned_read2, 2, READ)
SALA_HOOK(__tsan_unaligned_read4, 4, READ)
SALA_HOOK(__tsan_unaligned_read8, 8, READ)
SALA_HOOK(__tsan_unaligned_read16, 16, READ)
SALA_HOOK(__tsan_unaligned_write2, 2, WRITE)
SALA_HOOK(__tsan_unaligned_write4, 4, WRITE)
SALA_HOOK(__tsan_unaligned_write8, 8, WRITE)
SALA_HOOK(__tsan_unaligned_write16, 16, WRITE)

void __tsan_read_range(void* pointer, size_t bytes) {
    sala::host::observe(pointer, bytes, sala::host::Access::READ, __builtin_return_address(0));
}

void __tsan_write_range(void* pointer, size_t bytes) {
    sala::host::observe(pointer, bytes, sala::host::Access::WRITE, __builtin_return_address(0));
}

// Clang calls these instead of the C functions.
void* __tsan_memcpy(void* to, const void* from, size_t bytes) {
    sala::host::observe(from, bytes, sala::host::Access::READ, __builtin_return_address(0));
    sala::host::observe(to, bytes, sala::host::Access::WRITE, __builtin_return_address(0));
    return memcpy(to, from, bytes);
}

void* __tsan_memmove(void* to, const void* from, size_t bytes) {
    sala::host::observe(from, bytes, sala::host::Access::READ, __builtin_return_address(0));
    sala::host::observe(to, bytes, sala::host::Access::WRITE, __builtin_return_address(0));
    return memmove(to, from, bytes);
}

void* __tsan_memset(void* to, int value, size_t bytes) {
    sala::host::observe(to, bytes, sala::host::Access::WRITE, __builtin_return_address(0));
    return memset(to, value, bytes);
}

void __tsan_init() {}
void __tsan_func_entry(void*) {}
void __tsan_func_exit() {}
}
