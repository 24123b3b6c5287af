// The host half of machine/barrier.cuh.
#include "machine/barrier.cuh"

#include "host/report.h"
#include "host/scheduler.h"

namespace sala::host {

namespace {

Barrier& checked_barrier(Block& block, int barrier, int threads, Site site) {
    if (barrier < 0 || barrier >= BARRIERS) fail(site, "there is no barrier %d: expected 0 to %d", barrier, BARRIERS - 1);
    if (threads <= 0 || threads % WARP_SIZE != 0 || threads > block.launch.threads) {
        fail(site, "barrier %d: %d threads: expected a multiple of %d, at most the block's %d", barrier, threads, WARP_SIZE,
             block.launch.threads);
    }
    Barrier& state = block.barriers[barrier];
    if (state.arrived == 0) state.expected = threads;
    if (state.expected != threads) {
        fail(site, "barrier %d: this thread expects %d threads, those before it %d", barrier, threads, state.expected);
    }
    return state;
}

// A warp waits at a barrier as one: the instruction is undefined for lanes that come to it in different
// places.
void check_company(Warp& warp, int lane, int barrier, Site site) {
    if (warp.at_barrier == 0) {
        warp.barrier = barrier;
        warp.barrier_site = site;
    } else if (warp.barrier != barrier || !same_site(warp.barrier_site, site)) {
        fail(site, "divergent warp: the lane waits at barrier %d while %d lanes of its warp wait at barrier %d at %s:%d", barrier,
             __builtin_popcount(warp.at_barrier), warp.barrier, warp.barrier_site.file, warp.barrier_site.line);
    }
    warp.at_barrier |= 1u << lane;
    if (warp.at_barrier == ALL_LANES) warp.at_barrier = 0;
}

void release_waiting(Block& block, Barrier& state) {
    state.arrived = 0;
    block.calls_without_progress = 0;
    for (Fiber* fiber : state.waiting) {
        if (block.launch.options.count != 0) fiber->warp->wavefronts.flush(block.counters);
        wake(*fiber);
    }
    state.waiting.clear();
}

// Notes the arrival and returns whether the barrier is complete.
bool arrive(Block& block, Barrier& state) {
    if (block.race != nullptr) block.race->arrive(state.arrivals, block.current->thread);
    return ++state.arrived == state.expected;
}

void complete(Block& block, Barrier& state, Fiber* last_waiting) {
    if (block.race != nullptr) {
        block.race->open(state.arrivals);
        for (const Fiber* fiber : state.waiting) block.race->pass(state.arrivals, fiber->thread);
        if (last_waiting != nullptr) block.race->pass(state.arrivals, last_waiting->thread);
        state.arrivals.clear();
    }
    release_waiting(block, state);
}

}  // namespace

void sync_barrier(int barrier, int threads, Site site) {
    Block& block = *running;
    Barrier& state = checked_barrier(block, barrier, threads, site);
    check_company(*block.current->warp, block.current->lane, barrier, site);
    if (arrive(block, state)) {
        complete(block, state, block.current);
        maybe_yield(2);
        return;
    }
    state.waiting.push_back(block.current);
    wait("sync_barrier", site);
}

void arrive_barrier(int barrier, int threads, Site site) {
    Block& block = *running;
    Barrier& state = checked_barrier(block, barrier, threads, site);
    if (arrive(block, state)) complete(block, state, nullptr);
    maybe_yield(2);
}

}  // namespace sala::host
