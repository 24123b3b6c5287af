// The host halves of machine/memory.cuh and of the shared-memory part of machine/machine.cuh.
#include "machine/memory.cuh"

#include <string.h>

#include "host/report.h"
#include "host/scheduler.h"
#include "host/shared_memory.h"

namespace sala::host {

namespace {

constexpr uint64_t SECTOR_BYTES = 32;

// No memory is mapped below.
constexpr uint64_t LOWEST_ADDRESS = 4096;

void check_global(Block& block, const void* pointer, uint32_t bytes, const char* what, Site site) {
    const uint64_t address = reinterpret_cast<uint64_t>(pointer);
    note_call(site, address);
    if (address < LOWEST_ADDRESS) fail(site, "%s: %p is a null pointer", what, pointer);
    if (address % bytes != 0) fail(site, "%s: global address %p is not aligned to %u bytes", what, pointer, bytes);
    if (is_shared(block, pointer)) fail(site, "%s: %p points into shared memory", what, pointer);
}

// Sizes known to the compiler make a move one instruction.
void move(void* to, const void* from, uint32_t bytes) {
    switch (bytes) {
        case 2:
            memcpy(to, from, 2);
            break;
        case 4:
            memcpy(to, from, 4);
            break;
        case 8:
            memcpy(to, from, 8);
            break;
        default:
            memcpy(to, from, 16);
    }
}

unsigned char* check_shared(Block& block, uint32_t address, uint32_t bytes, const char* what, Site site) {
    note_call(site, address);
    maybe_preempt();
    if (address % bytes != 0) fail(site, "%s: shared address 0x%x is not aligned to %u bytes", what, address, bytes);
    unsigned char* pointer = shared_pointer(block, address, bytes, block.current->thread, site);
    if (block.launch.options.count != 0) block.current->warp->wavefronts.record(block.current->lane, address, bytes, site);
    return pointer;
}

}  // namespace

void count_sectors(Block& block, const void* pointer, uint32_t bytes) {
    if (block.launch.options.count == 0) return;
    const uint64_t first = reinterpret_cast<uint64_t>(pointer) / SECTOR_BYTES;
    const uint64_t last = (reinterpret_cast<uint64_t>(pointer) + bytes - 1) / SECTOR_BYTES;
    for (uint64_t sector = first; sector <= last; ++sector) {
        if (block.sectors.insert(sector).second) block.counters.global_bytes_distinct += SECTOR_BYTES;
    }
}

void load_global(void* value, const void* from, uint32_t bytes, Site site) {
    Block& block = *running;
    check_global(block, from, bytes, "load_global", site);
    block.counters.global_bytes_read += bytes;
    count_sectors(block, from, bytes);
    move(value, from, bytes);
}

void store_global(void* to, const void* value, uint32_t bytes, Site site) {
    Block& block = *running;
    check_global(block, to, bytes, "store_global", site);
    block.counters.global_bytes_written += bytes;
    count_sectors(block, to, bytes);
    move(to, value, bytes);
}

void load_shared(void* value, uint32_t from, uint32_t bytes, Site site) {
    Block& block = *running;
    const unsigned char* pointer = check_shared(block, from, bytes, "load_shared", site);
    if (block.race != nullptr) block.race->access(block.current->thread, pointer, bytes, Access::READ, AccessSite::at(site));
    move(value, pointer, bytes);
}

void store_shared(uint32_t to, const void* value, uint32_t bytes, Site site) {
    Block& block = *running;
    unsigned char* pointer = check_shared(block, to, bytes, "store_shared", site);
    if (block.race != nullptr) block.race->access(block.current->thread, pointer, bytes, Access::WRITE, AccessSite::at(site));
    move(pointer, value, bytes);
}

void fail_out_of_bounds(uint32_t address, uint32_t bytes, int thread, Site site) {
    fail_thread(thread, site, "out of bounds: %u bytes at shared address 0x%x, where shared memory is [0x%x, 0x%x)", bytes, address,
                SHARED_BASE, SHARED_BASE + running->shared_bytes);
}

void* dynamic_shared(uint64_t bytes, Site site) {
    Block& block = *running;
    if (bytes != block.launch.dynamic_shared) {
        const char* much = bytes > block.launch.dynamic_shared ? "too little" : "too much";
        fail(site, "the shared-memory plan takes %llu bytes, but the launch gives %u of dynamic shared memory: %s",
             static_cast<unsigned long long>(bytes), block.launch.dynamic_shared, much);
    }
    return block.shared.get() + STATIC_SHARED_BYTES;
}

uint32_t shared_address(const void* object, Site site) {
    const Block& block = *running;
    const uint64_t offset = reinterpret_cast<uint64_t>(object) - reinterpret_cast<uint64_t>(block.shared.get());
    if (offset > block.shared_bytes) fail(site, "shared_address: %p does not point into shared memory", object);
    return SHARED_BASE + static_cast<uint32_t>(offset);
}

void* static_shared(const void* key, uint32_t bytes, uint32_t alignment, Site site) {
    Block& block = *running;
    for (const StaticVariable& variable : block.statics) {
        if (variable.key == key) return block.shared.get() + variable.offset;
    }
    const uint32_t offset = (block.static_bytes + alignment - 1) / alignment * alignment;
    if (offset + bytes > STATIC_SHARED_BYTES) fail(site, "more than %u bytes of static shared memory", STATIC_SHARED_BYTES);
    block.static_bytes = offset + bytes;
    block.statics.push_back({key, offset});
    return block.shared.get() + offset;
}

}  // namespace sala::host
