#include "block.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

namespace sala::host {

SALA_THREAD_LOCAL Block* running = nullptr;
SALA_THREAD_LOCAL Position position{};
SALA_THREAD_LOCAL sala_host_counters* counters = nullptr;

namespace {

// Bytes of shared memory nobody has written: NaN in every element type.
constexpr int POISON = 0xff;

// A polling thread makes about 10^8 calls a second.
constexpr uint64_t CALLS_BEFORE_FAILURE = uint64_t{1} << 31;

void continue_with(Fiber& to) {
    Block& block = *running;
    Fiber& from = *block.current;
    if (&to == &from) return;
    ++block.counters.switches;
    block.current = &to;
    position.thread = to.thread;
    switch_context(from.context, to.context);
}

[[noreturn]] void leave_failed_block() {
    continue_with(running->scheduler);
    abort();  // a failed block's fibers are never continued
}

void set_ready(Fiber& fiber, bool ready) {
    Warp& warp = *fiber.warp;
    const uint32_t lane = 1u << fiber.lane;
    const uint32_t warp_bit = 1u << warp.index;
    warp.ready = ready ? warp.ready | lane : warp.ready & ~lane;
    running->ready_warps = warp.ready != 0 ? running->ready_warps | warp_bit : running->ready_warps & ~warp_bit;
}

int lowest_bit(uint32_t mask) { return __builtin_ctz(mask); }

// The lowest bit above `position`, or the lowest at all.
int next_bit(uint32_t mask, int position) {
    const uint32_t above = position >= 31 ? 0 : mask & (~0u << (position + 1));
    return lowest_bit(above != 0 ? above : mask);
}

int random_bit(uint32_t mask, Random& random) {
    for (uint32_t skip = random.below(static_cast<uint32_t>(__builtin_popcount(mask))); skip > 0; --skip) mask &= mask - 1;
    return lowest_bit(mask);
}

Fiber& fiber_at(Block& block, int warp, int lane) { return block.fibers[static_cast<size_t>(warp * WARP_SIZE + lane)]; }

// Stays mostly with the same warp, so that warps drift apart as they do on a GPU.
Fiber& pick_at_random(Block& block) {
    const Warp* warp = block.current->warp;
    if (warp == nullptr || warp->ready == 0 || block.random.below(8) == 0) warp = &block.warps[random_bit(block.ready_warps, block.random)];
    return fiber_at(block, warp->index, random_bit(warp->ready, block.random));
}

Fiber& pick_in_order(Block& block, bool other_warp) {
    const bool reverse = block.launch.options.schedule == SALA_HOST_REVERSE;
    const Fiber& current = *block.current;
    const Warp* warp = current.warp;
    if (warp != nullptr && warp->ready != 0 && !other_warp) return fiber_at(block, warp->index, next_bit(warp->ready, current.lane));
    int index;
    if (reverse && !other_warp) {
        index = 31 - __builtin_clz(block.ready_warps);
    } else {
        index = warp == nullptr ? lowest_bit(block.ready_warps) : next_bit(block.ready_warps, warp->index);
    }
    return fiber_at(block, index, lowest_bit(block.warps[index].ready));
}

void append(char* text, size_t size, const char* format, ...) __attribute__((format(printf, 3, 4)));

void append(char* text, size_t size, const char* format, ...) {
    const size_t length = strlen(text);
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text + length, size - length, format, arguments);
    va_end(arguments);
}

bool waits_alike(const Fiber& a, const Fiber& b) {
    return a.waits_in == b.waits_in && a.waits_at.line == b.waits_at.line && strcmp(a.waits_at.file, b.waits_at.file) == 0;
}

// The first waiting fiber of each group that waits at one place in one primitive.
bool is_first_of_its_kind(const Block& block, const Fiber& fiber) {
    for (const Fiber& other : block.fibers) {
        if (&other == &fiber) return true;
        if (!other.exited && waits_alike(other, fiber)) return false;
    }
    return true;
}

void open_report(Block& block, int thread, Site site) {
    block.failed = true;
    block.report[0] = '\0';
    append(block.report, sizeof(block.report), "kernel %s, block (%d, %d, %d)", block.launch.kernel, position.block[0], position.block[1],
           position.block[2]);
    if (thread >= 0) {
        append(block.report, sizeof(block.report), ", thread %d (warp %d, lane %d)", thread, thread / WARP_SIZE, thread % WARP_SIZE);
    }
    append(block.report, sizeof(block.report), ": ");
    if (site.file != nullptr) append(block.report, sizeof(block.report), "%s:%d: ", site.file, site.line);
}

[[noreturn]] void fail_deadlocked() {
    Block& block = *running;
    open_report(block, -1, {nullptr, 0});
    append(block.report, sizeof(block.report), "deadlock: no thread can run");
    for (const Fiber& fiber : block.fibers) {
        if (fiber.exited || !is_first_of_its_kind(block, fiber)) continue;
        int count = 0;
        for (const Fiber& other : block.fibers) count += !other.exited && waits_alike(other, fiber) ? 1 : 0;
        append(block.report, sizeof(block.report), "; %d threads (from thread %d on) wait in %s at %s:%d", count, fiber.thread,
               fiber.waits_in, fiber.waits_at.file, fiber.waits_at.line);
    }
    const int exited = block.launch.threads - block.alive;
    if (exited > 0) append(block.report, sizeof(block.report), "; %d threads have ended", exited);
    leave_failed_block();
}

// The fiber to run next. The scheduler's own context comes last of all.
Fiber& pick(bool other_warp = false) {
    Block& block = *running;
    if (block.ready_warps == 0) {
        if (block.alive == 0) return block.scheduler;
        fail_deadlocked();
    }
    return block.launch.options.schedule == SALA_HOST_RANDOM ? pick_at_random(block) : pick_in_order(block, other_warp);
}

void end_thread(Block& block, Fiber& fiber) {
    Warp& warp = *fiber.warp;
    if (warp.arrived != 0) {
        fail(warp.site, "the thread ends while %d lanes of its warp wait for it in %s", __builtin_popcount(warp.arrived), warp.name);
    }
    fiber.copies.clear();  // what the thread never waited for never arrives
    fiber.exited = true;
    warp.alive &= ~(1u << fiber.lane);
    --block.alive;
    block.calls_without_progress = 0;
    set_ready(fiber, false);
}

void fiber_entry() {
    Block& block = *running;
    begin_context(block.scheduler.context);
    block.launch.entry(block.launch.params);
    end_thread(block, *block.current);
    continue_with(pick());
    abort();  // an ended fiber is never continued
}

void reset_fiber(Block& block, int thread) {
    Fiber& fiber = block.fibers[static_cast<size_t>(thread)];
    fiber.thread = thread;
    fiber.lane = thread % WARP_SIZE;
    fiber.warp = &block.warps[thread / WARP_SIZE];
    fiber.exited = false;
    fiber.waits_in = nullptr;
    fiber.copies.clear();
    prepare(fiber.context, block.stacks.stack(thread), Stacks::stack_bytes(), thread, fiber_entry);
}

void reset_warp(Block& block, int index) {
    Warp& warp = block.warps[index];
    warp.index = index;
    warp.alive = ALL_LANES;
    warp.ready = ALL_LANES;
    warp.arrived = 0;
    warp.wavefronts.clear();
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
    if (block.race != nullptr) block.race->begin(block.launch.threads, block.shared.get(), block.shared_bytes);
}

}  // namespace

void Random::seed(uint64_t seed, uint64_t stream) {
    state = ((seed + 1) * 0x9e3779b97f4a7c15u) ^ (stream * 0xd1b54a32d192ed03u + 7);
    if (state == 0) state = 1;
    next();
}

uint32_t Random::next() {
    state ^= state >> 12;
    state ^= state << 25;
    state ^= state >> 27;
    return static_cast<uint32_t>((state * 0x2545f4914f6cdd1du) >> 32);
}

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
    position.block_size = launch.threads;
    position.block[0] = static_cast<int>(index % launch.grid[0]);
    position.block[1] = static_cast<int>(row % launch.grid[1]);
    position.block[2] = static_cast<int>(row / launch.grid[1]);
    for (int axis = 0; axis < 3; ++axis) position.grid[axis] = static_cast<int>(launch.grid[axis]);
    random.seed(launch.options.seed, index);

    running = this;
    host::counters = &counters;
    current = &scheduler;
    scheduler.context.stack = nullptr;  // a pooled block may come back on another OS thread
    reset(*this);
    continue_with(pick());
    for (int i = 0; i < warp_count && launch.options.count != 0; ++i) warps[i].wavefronts.flush(counters);
    running = nullptr;
    host::counters = nullptr;
    ++counters.blocks;
    return !failed;
}

void fail(Site site, const char* format, ...) {
    Block& block = *running;
    open_report(block, block.current->thread, site);
    const size_t length = strlen(block.report);
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(block.report + length, sizeof(block.report) - length, format, arguments);
    va_end(arguments);
    leave_failed_block();
}

void fail_thread(int thread, Site site, const char* format, ...) {
    Block& block = *running;
    open_report(block, thread, site);
    const size_t length = strlen(block.report);
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(block.report + length, sizeof(block.report) - length, format, arguments);
    va_end(arguments);
    leave_failed_block();
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

void yield_to_other_warp() { continue_with(pick(true)); }

void maybe_yield(uint32_t one_in) {
    Block& block = *running;
    if (block.launch.options.schedule == SALA_HOST_RANDOM && block.random.below(one_in) == 0) yield();
}

void note_call(Site site) {
    if (++running->calls_without_progress >= CALLS_BEFORE_FAILURE) fail(site, "no progress: the block's threads poll and none moves on");
}

}  // namespace sala::host
