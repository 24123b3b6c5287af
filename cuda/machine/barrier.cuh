// Barriers among the warps of a block: 16 of them, barrier 0 being the one of sync_block. What a thread wrote
// to shared memory before it arrived is visible after the barrier to every thread that waited at it.
#pragma once
#include "machine/machine.cuh"

namespace sala {
inline namespace SALA_VARIANT {

// Waits for all threads of the block.
DEVICE void sync_block(SITE_ALONE);

// Waits until `threads` threads (a multiple of 32, whole warps) have arrived at the barrier, this one
// included.
DEVICE void sync_barrier(int barrier, int threads SITE);

// Arrives at the barrier without waiting.
DEVICE void arrive_barrier(int barrier, int threads SITE);

}  // namespace SALA_VARIANT
}  // namespace sala

#if defined(SALA_HOST)
#include "host/barrier.h"
#else
namespace sala {
inline namespace SALA_VARIANT {

DEVICE void sync_block() { __syncthreads(); }

DEVICE void sync_barrier(int barrier, int threads) { asm volatile("bar.sync %0, %1;" ::"r"(barrier), "r"(threads) : "memory"); }

DEVICE void arrive_barrier(int barrier, int threads) { asm volatile("bar.arrive %0, %1;" ::"r"(barrier), "r"(threads) : "memory"); }

}  // namespace SALA_VARIANT
}  // namespace sala
#endif
