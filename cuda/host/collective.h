// Meetings of a warp.
#pragma once
#include "host/block.h"

namespace sala::host {

// Brings the warp together: the last lane to arrive performs the operation for all. Fails if a lane cannot
// come, or comes from elsewhere.
void meet(Operation operation, const char* name, void* argument, Site site);

}  // namespace sala::host
