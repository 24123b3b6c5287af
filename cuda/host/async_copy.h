// The host half of machine/async_copy.cuh.
#pragma once

namespace sala::host {

void async_copy(uint32_t shared, const void* global, uint32_t bytes, bool valid, Site site);
void async_copy_commit();
void async_copy_wait(uint32_t pending);

}  // namespace sala::host

namespace sala {
inline namespace SALA_VARIANT {

template <int BYTES>
DEVICE void async_copy(uint32_t shared, const void* global, bool valid, const char* file, int line) {
    static_assert(BYTES == 4 || BYTES == 8 || BYTES == 16, "cp.async copies 4, 8 or 16 bytes");
    host::async_copy(shared, global, BYTES, valid, {file, line});
}

DEVICE void async_copy_commit() { host::async_copy_commit(); }

template <int PENDING>
DEVICE void async_copy_wait() {
    host::async_copy_wait(PENDING);
}

}  // namespace SALA_VARIANT
}  // namespace sala
