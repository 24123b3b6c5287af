// Phases of mbarriers, for the copies that they count.
#pragma once
#include "host/block.h"

namespace sala::host {

// The mbarrier at a shared address, as arrivals and waits find it.
Mbarrier& checked_mbarrier(Block& block, uint32_t barrier, Site site);

// Ends the phase if nothing lacks. `thread` and `site` are what brought the last of it.
void advance(Block& block, uint32_t barrier, Mbarrier& state, int thread, Site site);

}  // namespace sala::host
