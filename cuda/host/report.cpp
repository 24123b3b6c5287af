#include "host/report.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "host/scheduler.h"

namespace sala::host {

namespace {

void append_list(Block& block, const char* format, va_list arguments) {
    const size_t length = strlen(block.report);
    vsnprintf(block.report + length, sizeof(block.report) - length, format, arguments);
}

void append(Block& block, const char* format, ...) __attribute__((format(printf, 2, 3)));

void append(Block& block, const char* format, ...) {
    va_list arguments;
    va_start(arguments, format);
    append_list(block, format, arguments);
    va_end(arguments);
}

void open_report(Block& block) {
    block.failed = true;
    block.report[0] = '\0';
    append(block, "kernel %s, block (%d, %d, %d)", block.launch.kernel, position.block[0], position.block[1], position.block[2]);
}

void open_thread_report(Block& block, int thread, Site site) {
    open_report(block);
    append(block, ", thread %d (warp %d, lane %d): %s:%d: ", thread, thread / WARP_SIZE, thread % WARP_SIZE, site.file, site.line);
}

bool wait_alike(const Fiber& a, const Fiber& b) { return a.waits_in == b.waits_in && same_site(a.waits_at, b.waits_at); }

// Whether no fiber before this one waits at the same place.
bool is_first_of_its_kind(const Block& block, const Fiber& fiber) {
    for (const Fiber& other : block.fibers) {
        if (&other == &fiber) return true;
        if (!other.exited && wait_alike(other, fiber)) return false;
    }
    return true;
}

int count_alike(const Block& block, const Fiber& fiber) {
    int count = 0;
    for (const Fiber& other : block.fibers) count += !other.exited && wait_alike(other, fiber) ? 1 : 0;
    return count;
}

}  // namespace

void fail(Site site, const char* format, ...) {
    Block& block = *running;
    open_thread_report(block, block.current->thread, site);
    va_list arguments;
    va_start(arguments, format);
    append_list(block, format, arguments);
    va_end(arguments);
    leave_block();
}

void fail_thread(int thread, Site site, const char* format, ...) {
    Block& block = *running;
    open_thread_report(block, thread, site);
    va_list arguments;
    va_start(arguments, format);
    append_list(block, format, arguments);
    va_end(arguments);
    leave_block();
}

void fail_deadlocked() {
    Block& block = *running;
    open_report(block);
    append(block, ": deadlock: no thread can run");
    for (const Fiber& fiber : block.fibers) {
        if (fiber.exited || !is_first_of_its_kind(block, fiber)) continue;
        append(block, "; %d threads (from thread %d on) wait in %s at %s:%d", count_alike(block, fiber), fiber.thread, fiber.waits_in,
               fiber.waits_at.file, fiber.waits_at.line);
    }
    for (const auto& [address, barrier] : block.mbarriers) {
        if (barrier.waiting.empty()) continue;
        append(block, "; the mbarrier at shared address 0x%x lacks %d of %d arrivals", address, barrier.lacks, barrier.expected);
        if (barrier.bytes > 0) append(block, " and %lld bytes", static_cast<long long>(barrier.bytes));
    }
    const int exited = block.launch.threads - block.alive;
    if (exited > 0) append(block, "; %d threads have ended", exited);
    leave_block();
}

}  // namespace sala::host
