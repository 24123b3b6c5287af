// Asynchronous copies from global to shared memory (cp.async). Copies belong to the thread that issues them:
// a wait makes the thread's own copies visible to that thread, and other threads see them after a barrier
// that follows the wait.
//
// The executor performs a copy as late as it may (at the wait) and fills its destination with NaN until then,
// so that a wait that is too weak shows.
#pragma once
#include "machine/machine.cuh"

namespace sala {
inline namespace SALA_VARIANT {

// Starts a copy of BYTES (4, 8 or 16) bytes between addresses aligned to BYTES. If not valid, the destination
// is filled with zeros and the source is not read.
template <int BYTES>
DEVICE void async_copy(uint32_t shared, const void* global, bool valid = true SITE);

// Closes the group of the copies started since the last commit (it may be empty).
DEVICE void async_copy_commit();

// Waits for all of the thread's groups but the PENDING newest.
template <int PENDING>
DEVICE void async_copy_wait();

}  // namespace SALA_VARIANT
}  // namespace sala

#if defined(SALA_HOST)
#include "host/async_copy.h"
#else
namespace sala {
inline namespace SALA_VARIANT {

template <int BYTES>
DEVICE void async_copy(uint32_t shared, const void* global, bool valid) {
    static_assert(BYTES == 4 || BYTES == 8 || BYTES == 16, "cp.async copies 4, 8 or 16 bytes");
    const int source_bytes = valid ? BYTES : 0;
    if constexpr (BYTES == 16) {
        asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(shared), "l"(__cvta_generic_to_global(global)), "r"(source_bytes)
                     : "memory");
    } else {
        asm volatile("cp.async.ca.shared.global [%0], [%1], %2, %3;" ::"r"(shared), "l"(__cvta_generic_to_global(global)), "n"(BYTES),
                     "r"(source_bytes)
                     : "memory");
    }
}

DEVICE void async_copy_commit() { asm volatile("cp.async.commit_group;" ::: "memory"); }

template <int PENDING>
DEVICE void async_copy_wait() {
    asm volatile("cp.async.wait_group %0;" ::"n"(PENDING) : "memory");
}

}  // namespace SALA_VARIANT
}  // namespace sala
#endif
