// Asynchronous copies, for those who wait for them.
#pragma once
#include "host/block.h"

namespace sala::host {

// Whether what a copy does is to happen now, and not as late as it may.
bool performed_at_once(Block& block);

// The race detector's name for the last copy that a thread has started.
uint32_t last_copy(const Block& block, const Fiber& fiber);

// Performs the first `copies` copies that a thread has started.
void perform_until(Block& block, Fiber& fiber, size_t copies);

// One of the arrivals that wait for copies comes.
void arrive_late(Block& block, size_t index);

}  // namespace sala::host
