// The asynchronous proxy, through which tensor copies and products of warpgroups reach shared memory. It does not see what
// threads have written to it by stores, by async_copy or by beginning mbarriers until they have published that.
//
// What threads have read needs no publishing: a barrier after the reads orders them before what follows.
#pragma once
#include "machine/machine.cuh"

namespace sala {
inline namespace SALA_VARIANT {

// Publishes the calling thread's own writes to shared memory, and the copies that it has waited for. Compute capability 9.0
// and later; before there is no such proxy, and nothing to do.
DEVICE void publish_shared_writes(SITE_ALONE);

}  // namespace SALA_VARIANT
}  // namespace sala

#if defined(SALA_HOST)
#include "host/proxy.h"
#else
namespace sala {
inline namespace SALA_VARIANT {

DEVICE void publish_shared_writes() {
#if __CUDA_ARCH__ >= 900
    asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
#endif
}

}  // namespace SALA_VARIANT
}  // namespace sala
#endif
