// Relaxed atomic operations on 32-bit integers; each returns the value it replaced. The pointer forms take
// global or shared memory, the address forms shared memory.
#pragma once
#include "machine/machine.cuh"

namespace sala {
inline namespace SALA_VARIANT {

DEVICE uint32_t atomic_add(uint32_t* pointer, uint32_t value SITE);
DEVICE int32_t atomic_add(int32_t* pointer, int32_t value SITE);
DEVICE uint32_t atomic_or(uint32_t* pointer, uint32_t value SITE);
DEVICE uint32_t atomic_max(uint32_t* pointer, uint32_t value SITE);
DEVICE int32_t atomic_max(int32_t* pointer, int32_t value SITE);

DEVICE uint32_t atomic_add_shared(uint32_t address, uint32_t value SITE);
DEVICE uint32_t atomic_or_shared(uint32_t address, uint32_t value SITE);
DEVICE uint32_t atomic_max_shared(uint32_t address, uint32_t value SITE);

// Orders this thread's accesses to global memory: the whole device sees those before the fence before those
// after it.
DEVICE void memory_fence();

}  // namespace SALA_VARIANT
}  // namespace sala

#if defined(SALA_HOST)
#include "host/atomic.h"
#else
namespace sala {
inline namespace SALA_VARIANT {

DEVICE uint32_t atomic_add(uint32_t* pointer, uint32_t value) { return atomicAdd(pointer, value); }
DEVICE int32_t atomic_add(int32_t* pointer, int32_t value) { return atomicAdd(pointer, value); }
DEVICE uint32_t atomic_or(uint32_t* pointer, uint32_t value) { return atomicOr(pointer, value); }
DEVICE uint32_t atomic_max(uint32_t* pointer, uint32_t value) { return atomicMax(pointer, value); }
DEVICE int32_t atomic_max(int32_t* pointer, int32_t value) { return atomicMax(pointer, value); }

DEVICE uint32_t atomic_add_shared(uint32_t address, uint32_t value) {
    uint32_t old;
    asm volatile("atom.shared.add.u32 %0, [%1], %2;" : "=r"(old) : "r"(address), "r"(value) : "memory");
    return old;
}

DEVICE uint32_t atomic_or_shared(uint32_t address, uint32_t value) {
    uint32_t old;
    asm volatile("atom.shared.or.b32 %0, [%1], %2;" : "=r"(old) : "r"(address), "r"(value) : "memory");
    return old;
}

DEVICE uint32_t atomic_max_shared(uint32_t address, uint32_t value) {
    uint32_t old;
    asm volatile("atom.shared.max.u32 %0, [%1], %2;" : "=r"(old) : "r"(address), "r"(value) : "memory");
    return old;
}

DEVICE void memory_fence() { __threadfence(); }

}  // namespace SALA_VARIANT
}  // namespace sala
#endif
