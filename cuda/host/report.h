// How a kernel fails: the block ends with a report of what went wrong and where.
#pragma once
#include "host/site.h"

namespace sala::host {

// Ends the block with a report about the running thread (fail), another thread (fail_thread), or all of them
// (fail_deadlocked). Nothing on the fibers' stacks is destroyed, so callers own no memory.
[[noreturn]] void fail(Site site, const char* format, ...) __attribute__((format(printf, 2, 3)));
[[noreturn]] void fail_thread(int thread, Site site, const char* format, ...) __attribute__((format(printf, 3, 4)));
[[noreturn]] void fail_deadlocked();

}  // namespace sala::host
