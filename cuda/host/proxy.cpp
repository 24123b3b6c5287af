// The host half of machine/proxy.cuh.
#include "machine/proxy.cuh"

#include "host/block.h"

namespace sala::host {

void publish_shared_writes(Site) {
    Block& block = *running;
    if (block.race != nullptr) block.race->publish(block.current->thread);
}

}  // namespace sala::host
