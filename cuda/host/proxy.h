// The host half of machine/proxy.cuh.
#pragma once

namespace sala::host {

void publish_shared_writes(Site site);

}  // namespace sala::host

namespace sala {
inline namespace SALA_VARIANT {

DEVICE void publish_shared_writes(const char* file, int line) { host::publish_shared_writes({file, line}); }

}  // namespace SALA_VARIANT
}  // namespace sala
