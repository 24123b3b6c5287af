// The host half of machine/mbarrier.cuh.
#pragma once

namespace sala::host {

void init_mbarrier(uint32_t barrier, int arrivals, Site site);
int arrive_mbarrier(uint32_t barrier, int arrivals, bool may_complete, Site site);
void arrive_mbarrier_with_copies(uint32_t barrier, Site site);
void wait_mbarrier(uint32_t barrier, uint32_t parity, Site site);

}  // namespace sala::host

namespace sala {
inline namespace SALA_VARIANT {

DEVICE void init_mbarrier(uint32_t barrier, int arrivals, const char* file, int line) {
    host::init_mbarrier(barrier, arrivals, {file, line});
}

DEVICE int arrive_mbarrier(uint32_t barrier, const char* file, int line) { return host::arrive_mbarrier(barrier, 1, true, {file, line}); }

DEVICE void arrive_mbarrier_for(uint32_t barrier, int arrivals, const char* file, int line) {
    host::arrive_mbarrier(barrier, arrivals, false, {file, line});
}

DEVICE void arrive_mbarrier_with_copies(uint32_t barrier, const char* file, int line) {
    host::arrive_mbarrier_with_copies(barrier, {file, line});
}

DEVICE void wait_mbarrier(uint32_t barrier, uint32_t parity, const char* file, int line) {
    host::wait_mbarrier(barrier, parity, {file, line});
}

}  // namespace SALA_VARIANT
}  // namespace sala
