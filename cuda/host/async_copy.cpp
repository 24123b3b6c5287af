// The host half of machine/async_copy.cuh.
#include "machine/async_copy.cuh"

#include <string.h>

#include "host/copies.h"
#include "host/report.h"
#include "host/scheduler.h"
#include "host/shared_memory.h"

namespace sala::host {

namespace {

// Reads the source as the copy will, so that AddressSanitizer reports the line that asked for it.
void touch([[maybe_unused]] const void* global, [[maybe_unused]] uint32_t bytes) {
#if defined(__SANITIZE_ADDRESS__)
    unsigned char bytes_read[16];
    memcpy(bytes_read, global, bytes);
    asm volatile("" ::"r"(bytes_read) : "memory");
#endif
}

// Most copies are of 16 bytes; a size known to the compiler makes them one instruction.
void move_bytes(void* to, const void* from, uint32_t bytes) {
    if (bytes == 16) {
        memcpy(to, from, 16);
    } else {
        memcpy(to, from, bytes);
    }
}

void fill_bytes(void* to, int value, uint32_t bytes) {
    if (bytes == 16) {
        memset(to, value, 16);
    } else {
        memset(to, value, bytes);
    }
}

void perform(Block& block, Copy& copy) {
    if (copy.done) return;
    copy.done = true;
    unsigned char* to = block.shared.get() + (copy.shared - SHARED_BASE);
    if (copy.valid) {
        move_bytes(to, copy.global, copy.bytes);
    } else {
        fill_bytes(to, 0, copy.bytes);
    }
}

void check(const Block& block, uint32_t shared, const void* global, uint32_t bytes, bool valid, Site site) {
    if (shared % bytes != 0) fail(site, "async_copy: shared address 0x%x is not aligned to %u bytes", shared, bytes);
    if (!valid) return;
    if (reinterpret_cast<uint64_t>(global) % bytes != 0) {
        fail(site, "async_copy: global address %p is not aligned to %u bytes", global, bytes);
    }
    if (global == nullptr || is_shared(block, global)) fail(site, "async_copy: %p is not in global memory", global);
}

void wait_for_groups(Block& block, Fiber& fiber, size_t groups) {
    CopyQueue& queue = fiber.copies;
    if (groups <= queue.waited_groups) return;
    const CopyGroup& last = queue.groups[groups - 1];
    for (; queue.waited_copies < last.end; ++queue.waited_copies) perform(block, queue.copies[queue.waited_copies]);
    if (block.race != nullptr) block.race->complete_copy(fiber.thread, last.epoch);
    queue.waited_groups = groups;
    queue.forget_waited();
}

}  // namespace

bool performed_at_once(Block& block) {
    const uint32_t copies = block.launch.options.copies;
    return copies == SALA_HOST_EAGER || (copies == SALA_HOST_EITHER && block.random.below(2) == 0);
}

uint32_t last_copy(const Block& block, const Fiber& fiber) { return block.race == nullptr ? 0 : block.race->copies_issued(fiber.thread); }

void perform_until(Block& block, Fiber& fiber, size_t copies) {
    CopyQueue& queue = fiber.copies;
    if (copies <= queue.forgotten + queue.waited_copies) return;
    const size_t end = copies - queue.forgotten;
    for (size_t i = queue.waited_copies; i < end; ++i) perform(block, queue.copies[i]);
    if (queue.waited_groups != queue.groups.size()) return;  // a group may begin before
    queue.waited_copies = end;
    queue.forget_waited();
}

void async_copy(uint32_t shared, const void* global, uint32_t bytes, bool valid, Site site) {
    Block& block = *running;
    Fiber& fiber = *block.current;
    note_call(site, reinterpret_cast<uint64_t>(global));
    check(block, shared, global, bytes, valid, site);
    unsigned char* to = shared_pointer(block, shared, bytes, fiber.thread, site);
    Copy copy{shared, global, bytes, valid, false, 0};
    if (valid) {
        touch(global, bytes);
        block.counters.global_bytes_read += bytes;
        count_sectors(block, global, bytes);
    }
    if (block.race != nullptr) copy.epoch = block.race->issue_copy(fiber.thread, to, bytes, AccessSite::at(site));
    if (performed_at_once(block)) {
        perform(block, copy);
    } else {
        fill_bytes(to, POISON, bytes);
    }
    fiber.copies.copies.push_back(copy);
}

void async_copy_commit() {
    const Fiber& fiber = *running->current;
    CopyQueue& queue = running->current->copies;
    queue.groups.push_back({queue.copies.size(), last_copy(*running, fiber)});
}

void async_copy_wait(uint32_t pending) {
    Fiber& fiber = *running->current;
    const size_t groups = fiber.copies.groups.size();
    if (groups > pending) wait_for_groups(*running, fiber, groups - pending);
}

}  // namespace sala::host
