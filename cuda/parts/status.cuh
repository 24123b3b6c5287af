// The status word: what a kernel refused because of values that only the device knows. Added to, never reset.
#pragma once

#include "machine/atomic.cuh"
#include "machine/machine.cuh"

namespace sala {
inline namespace SALA_VARIANT {

enum Refusal { REFUSED_NOTHING = -1, REFUSED_PAGES = 0, REFUSED_BLOCKS = 1, REFUSED_LENGTHS = 2, REFUSED_SLOTS = 3 };

// Adds to one counter of the optional status word; called by one thread for each thing refused.
DEVICE void count_refused(uint64_t status, Refusal what, uint32_t count) {
    if (status != 0 && count != 0) atomic_add(reinterpret_cast<uint32_t*>(status) + what, count);
}

// The same for what all blocks of a sequence find (blocks that share the z index): one thread of one of them
// counts it.
DEVICE void count_refused_once(uint64_t status, Refusal what, uint32_t count) {
    if (block_index_x() == 0 && block_index_y() == 0 && thread_index() == 0) count_refused(status, what, count);
}

// Counts a sequence that is refused, if it is.
DEVICE void count_refused_sequence(uint64_t status, Refusal what) { count_refused_once(status, what, what == REFUSED_NOTHING ? 0 : 1); }

}  // namespace SALA_VARIANT
}  // namespace sala
