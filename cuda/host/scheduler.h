// Which fiber runs next, on one OS thread.
#pragma once
#include "host/block.h"

namespace sala::host {

// Runs the block's fibers until all have ended or one has failed.
void run_fibers(Block& block);

// The running fiber has ended; others go on.
[[noreturn]] void leave_thread();

// The block has failed; its fibers are not continued.
[[noreturn]] void leave_block();

// Blocks the running fiber until wake.
void wait(const char* primitive, Site site);
void wake(Fiber& fiber);

// Lets another ready fiber run.
void yield();

// Under the random schedule, yields one time in `one_in`, after fibers have met.
void maybe_yield(uint32_t one_in);

// Where the options ask for it, yields at some accesses to shared memory.
void maybe_preempt();

// Notes an access that may be part of a loop that polls: now and then lets other warps run, and fails when
// nothing has happened for too long. A thread whose accesses move on makes progress, however long its loop; one
// that goes round a few addresses polls. A loop that goes round more of them for ever is not found.
void note_call(Site site, uint64_t address);

}  // namespace sala::host
