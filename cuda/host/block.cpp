#include "host/block.h"

#include <algorithm>
#include <stdlib.h>
#include <string.h>

#include "host/report.h"
#include "host/scheduler.h"

namespace sala::host {

SALA_THREAD_LOCAL Block* running = nullptr;
SALA_THREAD_LOCAL Position position{};
SALA_THREAD_LOCAL sala_host_counters* counters = nullptr;

namespace {

void end_thread(Block& block, Fiber& fiber) {
    Warp& warp = *fiber.warp;
    if (warp.arrived != 0) {
        fail(warp.site, "the thread ends while %d lanes of its warp wait for it in %s", __builtin_popcount(warp.arrived), warp.name);
    }
    for (const LateArrival& late : block.late_arrivals) {
        if (late.thread == fiber.thread) fail(late.site, "the thread ends before its copies are there and it has arrived");
    }
    fiber.copies.clear();  // what the thread has not waited for never arrives
    fiber.exited = true;
    warp.alive &= ~(1u << fiber.lane);
    if (warp.alive == 0) check_products_have_ended(block, warp.index);
    --block.alive;
    block.calls_without_progress = 0;
}

void fiber_entry() {
    Block& block = *running;
    begin_context(block.scheduler.context);
    block.launch.entry(block.launch.params);
    end_thread(block, *block.current);
    leave_thread();
}

void reset_fiber(Block& block, int thread) {
    Fiber& fiber = block.fibers[static_cast<size_t>(thread)];
    fiber.thread = thread;
    fiber.lane = thread % WARP_SIZE;
    fiber.warp = &block.warps[thread / WARP_SIZE];
    fiber.exited = false;
    fiber.waits_in = nullptr;
    fiber.waits_for_registers = false;
    fiber.copies.clear();
    fiber.noted.clear();
    prepare(fiber.context, block.stacks.stack(thread), Stacks::stack_bytes(), thread, fiber_entry);
}

void reset_warp(Block& block, int index) {
    Warp& warp = block.warps[index];
    warp.index = index;
    warp.alive = ALL_LANES;
    warp.ready = ALL_LANES;
    warp.arrived = 0;
    warp.at_barrier = 0;
    warp.registers = std::min(REGISTERS / block.launch.threads / 8 * 8, MOST_REGISTERS);
    warp.registers_wanted = warp.registers;
    warp.wavefronts.clear();
    block.started_products[index].clear();
    block.warpgroups[index / 4].clear();
}

void reset(Block& block) {
    block.warp_count = block.launch.threads / WARP_SIZE;
    block.alive = block.launch.threads;
    block.ready_warps = static_cast<uint32_t>((uint64_t{1} << block.warp_count) - 1);
    block.failed = false;
    block.calls_without_progress = 0;
    block.statics.clear();
    block.static_bytes = 0;
    memset(block.shared.get(), POISON, block.shared_bytes);
    for (int i = 0; i < block.warp_count; ++i) reset_warp(block, i);
    for (int i = 0; i < block.launch.threads; ++i) reset_fiber(block, i);
    for (Barrier& barrier : block.barriers) {
        barrier.arrived = 0;
        barrier.waiting.clear();
        barrier.arrivals.clear();
    }
    block.mbarriers.clear();
    block.late_arrivals.clear();
    block.bulk_copies.clear();
    block.bulk_slots = 0;
    block.free_registers = 0;
    const uint32_t schedule = block.launch.options.schedule;
    block.elected_lane = schedule == SALA_HOST_RANDOM ? static_cast<int>(block.random.below(WARP_SIZE)) : 0;
    if (block.race != nullptr) block.race->begin(block.launch.threads, block.shared.get(), block.shared_bytes);
}

}  // namespace

bool Block::adopt(const Launch& next) {
    const uint32_t bytes = STATIC_SHARED_BYTES + next.dynamic_shared;
    // The exact size, so that AddressSanitizer sees an access past its end.
    if (shared == nullptr || shared_bytes != bytes) {
        void* memory = nullptr;
        if (posix_memalign(&memory, 1024, bytes) != 0) return false;
        shared = {static_cast<unsigned char*>(memory), free};
        shared_bytes = bytes;
    }
    if (!stacks.reserve(next.threads)) return false;
    launch = next;
    fibers.resize(static_cast<size_t>(next.threads));
    if (next.options.detect_races != 0 && race_detector == nullptr) race_detector = std::make_unique<RaceDetector>();
    race = next.options.detect_races != 0 ? race_detector.get() : nullptr;
    counters = {};
    sectors.clear();
    return true;
}

bool Block::run(uint64_t index) {
    const uint64_t row = index / launch.grid[0];
    position.block_threads = launch.threads;
    position.block[0] = static_cast<int>(index % launch.grid[0]);
    position.block[1] = static_cast<int>(row % launch.grid[1]);
    position.block[2] = static_cast<int>(row / launch.grid[1]);
    for (int axis = 0; axis < 3; ++axis) position.grid[axis] = static_cast<int>(launch.grid[axis]);
    random.seed(launch.options.seed, index);
    reset(*this);
    run_fibers(*this);
    for (int i = 0; i < warp_count && launch.options.count != 0; ++i) warps[i].wavefronts.flush(counters);
    ++counters.blocks;
    return !failed;
}

}  // namespace sala::host
