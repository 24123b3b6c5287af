#include "host/scheduler.h"

#include <stdlib.h>

#include "host/copies.h"
#include "host/report.h"

namespace sala::host {

namespace {

// Calls after which a thread that may be polling lets others run, and the address of its call is noted. A prime
// number, so that the notes of a loop of a few calls show all its addresses in turn.
constexpr uint64_t CALLS_BETWEEN_NOTES = 1021;

// Calls after which polling is taken for endless. A block makes some 10^8 calls per second.
constexpr uint64_t CALLS_BEFORE_FAILURE = uint64_t{1} << 26;

// How likely the random schedule leaves a warp that can go on. Staying mostly with one makes warps drift
// apart, as they do on a GPU.
constexpr uint32_t LEAVE_WARP_ONE_IN = 8;

void continue_with(Fiber& to) {
    Block& block = *running;
    Fiber& from = *block.current;
    if (&to == &from) return;
    ++block.counters.switches;
    block.current = &to;
    position.thread = to.thread;
    switch_context(from.context, to.context);
}

void set_ready(Fiber& fiber, bool ready) {
    Warp& warp = *fiber.warp;
    const uint32_t lane = 1u << fiber.lane;
    const uint32_t warp_bit = 1u << warp.index;
    warp.ready = ready ? warp.ready | lane : warp.ready & ~lane;
    running->ready_warps = warp.ready != 0 ? running->ready_warps | warp_bit : running->ready_warps & ~warp_bit;
}

int lowest_bit(uint32_t mask) { return __builtin_ctz(mask); }
int highest_bit(uint32_t mask) { return 31 - __builtin_clz(mask); }

// The lowest set bit above `position` (-1: from the bottom), wrapping around.
int next_bit(uint32_t mask, int position) {
    const uint32_t above = position >= 31 ? 0 : mask & (~0u << (position + 1));
    return lowest_bit(above != 0 ? above : mask);
}

// The highest set bit below `position` (32: from the top), wrapping around.
int previous_bit(uint32_t mask, int position) {
    const uint32_t below = position >= 32 ? mask : mask & ((1u << position) - 1);
    return highest_bit(below != 0 ? below : mask);
}

int random_bit(uint32_t mask, Random& random) {
    for (uint32_t skip = random.below(static_cast<uint32_t>(__builtin_popcount(mask))); skip > 0; --skip) mask &= mask - 1;
    return lowest_bit(mask);
}

Fiber& fiber_at(Block& block, int warp, int lane) { return block.fibers[static_cast<size_t>(warp * WARP_SIZE + lane)]; }

Fiber& pick_at_random(Block& block, bool other_warp) {
    const Warp* warp = block.current->warp;
    if (warp == nullptr || warp->ready == 0 || other_warp || block.random.below(LEAVE_WARP_ONE_IN) == 0) {
        warp = &block.warps[random_bit(block.ready_warps, block.random)];
    }
    return fiber_at(block, warp->index, random_bit(warp->ready, block.random));
}

Fiber& pick_ascending(Block& block, bool other_warp) {
    const Fiber& current = *block.current;
    const Warp* warp = current.warp;
    if (warp != nullptr && warp->ready != 0 && !other_warp) return fiber_at(block, warp->index, next_bit(warp->ready, current.lane));
    const int index = next_bit(block.ready_warps, warp == nullptr ? -1 : warp->index);
    return fiber_at(block, index, lowest_bit(block.warps[index].ready));
}

Fiber& pick_descending(Block& block, bool other_warp) {
    const Fiber& current = *block.current;
    const Warp* warp = current.warp;
    if (warp != nullptr && warp->ready != 0 && !other_warp) return fiber_at(block, warp->index, previous_bit(warp->ready, current.lane));
    const int index = previous_bit(block.ready_warps, warp == nullptr ? 32 : warp->index);
    return fiber_at(block, index, highest_bit(block.warps[index].ready));
}

// The fiber to run next: one of the same warp if it may be, the scheduler's own context when all have ended.
Fiber& pick(bool other_warp = false) {
    Block& block = *running;
    if (block.alive == 0) {
        check_bulk_copies_have_ended(block);
        return block.scheduler;
    }
    // The latest that arrivals with copies, and copies that mbarriers count, may come.
    while (block.ready_warps == 0 && block.late_arrivals.size() + block.bulk_copies.size() != 0) {
        const size_t arrivals = block.late_arrivals.size(), count = arrivals + block.bulk_copies.size();
        const bool at_random = block.launch.options.schedule == SALA_HOST_RANDOM;
        const size_t next = at_random ? block.random.below(static_cast<uint32_t>(count)) : 0;
        if (next < arrivals) {
            arrive_late(block, next);
        } else {
            perform_bulk_copy(block, next - arrivals);
        }
    }
    if (block.ready_warps == 0) {
        fail_deadlocked();
    }
    switch (block.launch.options.schedule) {
        case SALA_HOST_RANDOM:
            return pick_at_random(block, other_warp);
        case SALA_HOST_REVERSE:
            return pick_descending(block, other_warp);
        default:
            return pick_ascending(block, other_warp);
    }
}

}  // namespace

void run_fibers(Block& block) {
    running = &block;
    counters = &block.counters;
    block.current = &block.scheduler;
    block.scheduler.context.stack = nullptr;  // to be learned anew: blocks are reused by other OS threads
    continue_with(pick());
    running = nullptr;
    counters = nullptr;
}

void leave_thread() {
    set_ready(*running->current, false);
    continue_with(pick());
    abort();  // unreachable: a thread that has ended is not resumed
}

void leave_block() {
    continue_with(running->scheduler);
    abort();  // unreachable: a failed block is not resumed
}

void wait(const char* primitive, Site site) {
    Fiber& fiber = *running->current;
    fiber.waits_in = primitive;
    fiber.waits_at = site;
    set_ready(fiber, false);
    continue_with(pick());
}

void wake(Fiber& fiber) { set_ready(fiber, true); }

void yield() { continue_with(pick()); }

void maybe_yield(uint32_t one_in) {
    Block& block = *running;
    if (block.launch.options.schedule == SALA_HOST_RANDOM && block.random.below(one_in) == 0) yield();
}

void maybe_preempt() {
    Block& block = *running;
    const uint32_t one_in = block.launch.options.preempt;
    if (one_in != 0 && block.random.below(one_in) == 0) yield();
}

void note_call(Site site, uint64_t address) {
    Block& block = *running;
    const uint64_t calls = ++block.calls_without_progress;
    if (calls % CALLS_BETWEEN_NOTES != 0) return;
    if (block.current->noted.add(address)) {
        block.calls_without_progress = 0;
    } else if (calls >= CALLS_BEFORE_FAILURE) {
        fail(site, "no progress: the block's threads poll, and none moves on");
    }
    continue_with(pick(true));
}

}  // namespace sala::host
