// The host half of machine/mbarrier.cuh.
#include "machine/mbarrier.cuh"

#include <string.h>

#include "host/copies.h"
#include "host/phases.h"
#include "host/report.h"
#include "host/scheduler.h"
#include "host/shared_memory.h"

namespace sala::host {

namespace {

constexpr uint32_t BYTES = 8;
constexpr int MOST_ARRIVALS = (1 << 20) - 1;

// What lies in shared memory where a barrier is; the barrier itself is kept apart.
constexpr uint64_t MARK = 0x72656972'7261626dull;

unsigned char* checked_place(Block& block, uint32_t barrier, Access kind, Site site) {
    note_call(site, barrier);
    if (barrier % BYTES != 0) fail(site, "mbarrier: shared address 0x%x is not aligned to 8 bytes", barrier);
    unsigned char* place = shared_pointer(block, barrier, BYTES, block.current->thread, site);
    if (block.race != nullptr) block.race->access(block.current->thread, place, BYTES, kind, AccessSite::at(site));
    return place;
}

void check_arrivals(int arrivals, Site site) {
    if (arrivals < 1 || arrivals > MOST_ARRIVALS) fail(site, "mbarrier: %d arrivals: expected 1 to %d", arrivals, MOST_ARRIVALS);
}

// The phase is complete: the next begins, and those who wait for this one go on.
void complete(Block& block, Mbarrier& state) {
    state.unwaited = state.has_copied && state.waiting.empty();
    state.has_copied = false;
    state.lacks = state.expected;
    state.phase ^= 1;
    ++state.phases;
    block.calls_without_progress = 0;
    if (block.race != nullptr) {
        block.race->open(state.arrivals);
        state.completed = state.arrivals.joined;
        state.arrivals.clear();
        for (const Fiber* fiber : state.waiting) block.race->acquire(state.completed, fiber->thread);
    }
    for (Fiber* fiber : state.waiting) wake(*fiber);
    state.waiting.clear();
}

}  // namespace

Mbarrier& checked_mbarrier(Block& block, uint32_t barrier, Site site) {
    const unsigned char* place = checked_place(block, barrier, Access::ATOMIC, site);
    const auto found = block.mbarriers.find(barrier);
    if (found == block.mbarriers.end()) fail(site, "there is no mbarrier at shared address 0x%x", barrier);
    if (memcmp(place, &MARK, BYTES) != 0) fail(site, "the mbarrier at shared address 0x%x was overwritten", barrier);
    return found->second;
}

void advance(Block& block, uint32_t barrier, Mbarrier& state, int thread, Site site) {
    if (state.lacks != 0 || state.bytes > 0) return;
    if (state.bytes < 0) {
        fail_thread(thread, site, "copies have brought %lld bytes more than were announced at the mbarrier at shared address 0x%x",
                    static_cast<long long>(-state.bytes), barrier);
    }
    if (state.copies != 0) {
        fail_thread(thread, site, "the phase of the mbarrier at shared address 0x%x is complete before %d copies, which were not announced",
                    barrier, state.copies);
    }
    complete(block, state);
}

void init_mbarrier(uint32_t barrier, int arrivals, Site site) {
    Block& block = *running;
    unsigned char* place = checked_place(block, barrier, Access::WRITE, site);
    check_arrivals(arrivals, site);
    if (block.mbarriers.count(barrier) != 0) fail(site, "there is an mbarrier at shared address 0x%x already", barrier);
    memcpy(place, &MARK, BYTES);
    Mbarrier& state = block.mbarriers[barrier];
    state.expected = state.lacks = arrivals;
    state.begun_by = block.current->thread;
    state.begun_at = site;
    if (block.race != nullptr) state.begun = block.race->epoch(state.begun_by);
}

int arrive_mbarrier(uint32_t barrier, int arrivals, bool may_complete, Site site) {
    Block& block = *running;
    Mbarrier& state = checked_mbarrier(block, barrier, site);
    check_arrivals(arrivals, site);
    const int lacked = state.lacks;
    if (arrivals > lacked || (arrivals == lacked && !may_complete)) {
        fail(site, "mbarrier: %d arrivals%s, but the phase lacks %d", arrivals, may_complete ? "" : " that must not complete the phase",
             lacked);
    }
    if (block.race != nullptr) block.race->arrive(state.arrivals, block.current->thread);
    state.lacks -= arrivals;
    advance(block, barrier, state, block.current->thread, site);
    maybe_yield(2);
    return lacked;
}

void arrive_mbarrier_with_copies(uint32_t barrier, Site site) {
    Block& block = *running;
    checked_mbarrier(block, barrier, site);
    Fiber& fiber = *block.current;
    block.late_arrivals.push_back({fiber.thread, barrier, fiber.copies.started(), last_copy(block, fiber), site});
    if (performed_at_once(block)) {
        arrive_late(block, block.late_arrivals.size() - 1);
        maybe_yield(2);
    }
}

void arrive_late(Block& block, size_t index) {
    const LateArrival late = block.late_arrivals[index];
    block.late_arrivals.erase(block.late_arrivals.begin() + static_cast<ptrdiff_t>(index));
    perform_until(block, block.fibers[static_cast<size_t>(late.thread)], late.copies);
    Mbarrier& state = block.mbarriers[late.barrier];
    if (block.race != nullptr) block.race->arrive_copies(state.arrivals, late.thread, late.epoch);
    --state.lacks;
    advance(block, late.barrier, state, late.thread, late.site);
}

void wait_mbarrier(uint32_t barrier, uint32_t parity, Site site) {
    Block& block = *running;
    Mbarrier& state = checked_mbarrier(block, barrier, site);
    if (parity > 1) fail(site, "mbarrier: parity %u: expected 0 or 1", parity);
    if (state.phase != parity) {
        state.unwaited = false;
        if (block.race != nullptr && state.completed != nullptr) block.race->acquire(state.completed, block.current->thread);
        maybe_yield(2);
        return;
    }
    state.waiting.push_back(block.current);
    wait("wait_mbarrier", site);
}

}  // namespace sala::host
