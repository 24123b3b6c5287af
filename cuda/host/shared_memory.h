// The memory behind addresses, and what is counted of accesses to it.
#pragma once
#include "host/block.h"

namespace sala::host {

[[noreturn]] void fail_out_of_bounds(uint32_t address, uint32_t bytes, int thread, Site site);

// The memory at a shared address.
inline unsigned char* shared_pointer(Block& block, uint32_t address, uint32_t bytes, int thread, Site site) {
    const uint32_t offset = address - SHARED_BASE;
    if (address < SHARED_BASE || offset > block.shared_bytes || bytes > block.shared_bytes - offset) {
        fail_out_of_bounds(address, bytes, thread, site);
    }
    return block.shared.get() + offset;
}

// Whether a pointer points into the block's shared memory.
inline bool is_shared(const Block& block, const void* pointer) {
    const uint64_t offset = reinterpret_cast<uint64_t>(pointer) - reinterpret_cast<uint64_t>(block.shared.get());
    return offset < block.shared_bytes;
}

// Counts the sectors of an access to global memory.
void count_sectors(Block& block, const void* pointer, uint32_t bytes);

}  // namespace sala::host
