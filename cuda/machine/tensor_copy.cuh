// Copies of boxes of a tensor from global to shared memory (TMA), which one thread starts and an mbarrier counts. Compute
// capability 9.0 and later.
//
// The host describes a tensor and its box by a sala_tensor_map (params/tensor_map.h), a field of the kernel's parameters. A
// copy names the element at which the box begins, one index for each axis, axis 0 (the contiguous one) first. Elements of the
// box outside of the tensor, before or behind it, are not read and become zero.
//
// In shared memory the box lies element by element, axis 0 fastest, from `target` on, a multiple of 128. With swizzle 128 and
// 64 elements along axis 0 that is a SharedTile<64> of which `target` is the start of a row, if the tile begins at a multiple
// of 1024; with swizzle 64 and 32 elements a SharedTile<32> that begins at a multiple of 512.
//
// A phase of an mbarrier is complete when its arrivals have come and as many bytes as were announced for it. All bytes of a
// box count, zeros too:
//
//   if (elect_lane()) {
//       arrive_mbarrier_expecting(barrier, BYTES);   the one arrival of the phase, and what copies will bring
//       start_tensor_copy(target, p.map, {column, head, row, page}, barrier);
//   }
//   wait_mbarrier(barrier, parity);                  all who read it
//
// Copies write through the asynchronous proxy (machine/proxy.cuh): before the first copy the thread that began the mbarrier
// calls publish_shared_writes(), then comes a barrier of the block; the same goes for stores to the target. Threads that have
// read the target arrive at an mbarrier, or a barrier, that the thread which copies waits for. Products of warpgroups read
// what has been copied, after a wait, without more.
#pragma once
#include "machine/mbarrier.cuh"
#include "machine/proxy.cuh"
#include "params/tensor_map.h"

namespace sala {
inline namespace SALA_VARIANT {

// Whether the machine that a kernel is compiled for has these copies.
#if defined(SALA_HOST) || !defined(__CUDA_ARCH__) || __CUDA_ARCH__ >= 900
constexpr bool HAS_TENSOR_COPIES = true;
#else
constexpr bool HAS_TENSOR_COPIES = false;
#endif

// Starts a copy of a box. RANK is the number of the map's axes, 2 to 4.
template <int RANK>
DEVICE void start_tensor_copy(uint32_t target, const sala_tensor_map& map, const int (&first)[RANK], uint32_t barrier SITE);

// Starts a copy of bytes as they lie; all three are multiples of 16.
DEVICE void start_bulk_copy(uint32_t target, const void* global, uint32_t bytes, uint32_t barrier SITE);

// Announces bytes that copies will bring in this phase, which must lack an arrival yet.
DEVICE void expect_copied_bytes(uint32_t barrier, uint32_t bytes SITE);

// The same, and arrives.
DEVICE void arrive_mbarrier_expecting(uint32_t barrier, uint32_t bytes SITE);

// Fetches a map ahead of the first copy by it.
DEVICE void prefetch_map(const sala_tensor_map& map);

}  // namespace SALA_VARIANT
}  // namespace sala

#if defined(SALA_HOST)
#include "host/tensor_copy.h"
#else
namespace sala {
inline namespace SALA_VARIANT {

template <int RANK>
DEVICE void start_tensor_copy(uint32_t target, const sala_tensor_map& map, const int (&first)[RANK], uint32_t barrier) {
    static_assert(2 <= RANK && RANK <= SALA_MAP_AXES, "a map has 2 to 4 axes");
    const auto place = reinterpret_cast<uint64_t>(&map);
    if constexpr (RANK == 2) {
        asm volatile(
            "cp.async.bulk.tensor.2d.shared::cluster.global.tile.mbarrier::complete_tx::bytes [%0], [%1, {%2, %3}], [%4];" ::"r"(target),
            "l"(place), "r"(first[0]), "r"(first[1]), "r"(barrier)
            : "memory");
    } else if constexpr (RANK == 3) {
        asm volatile(
            "cp.async.bulk.tensor.3d.shared::cluster.global.tile.mbarrier::complete_tx::bytes [%0], [%1, {%2, %3, %4}], [%5];" ::"r"(
                target),
            "l"(place), "r"(first[0]), "r"(first[1]), "r"(first[2]), "r"(barrier)
            : "memory");
    } else {
        asm volatile(
            "cp.async.bulk.tensor.4d.shared::cluster.global.tile.mbarrier::complete_tx::bytes [%0], [%1, {%2, %3, %4, %5}], [%6];" ::"r"(
                target),
            "l"(place), "r"(first[0]), "r"(first[1]), "r"(first[2]), "r"(first[3]), "r"(barrier)
            : "memory");
    }
}

DEVICE void start_bulk_copy(uint32_t target, const void* global, uint32_t bytes, uint32_t barrier) {
    asm volatile("cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1], %2, [%3];" ::"r"(target),
                 "l"(__cvta_generic_to_global(global)), "r"(bytes), "r"(barrier)
                 : "memory");
}

DEVICE void expect_copied_bytes(uint32_t barrier, uint32_t bytes) {
    asm volatile("mbarrier.expect_tx.relaxed.cta.shared::cta.b64 [%0], %1;" ::"r"(barrier), "r"(bytes) : "memory");
}

DEVICE void arrive_mbarrier_expecting(uint32_t barrier, uint32_t bytes) {
    asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(barrier), "r"(bytes) : "memory");
}

DEVICE void prefetch_map(const sala_tensor_map& map) {
    asm volatile("prefetch.tensormap [%0];" ::"l"(reinterpret_cast<uint64_t>(&map)) : "memory");
}

}  // namespace SALA_VARIANT
}  // namespace sala
#endif
