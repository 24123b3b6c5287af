// The host half of machine/tensor_copy.cuh.
#pragma once

namespace sala::host {

void start_tensor_copy(uint32_t target, const sala_tensor_map& map, const int* first, int rank, uint32_t barrier, Site site);
void start_bulk_copy(uint32_t target, const void* global, uint32_t bytes, uint32_t barrier, Site site);
void expect_copied_bytes(uint32_t barrier, uint32_t bytes, bool arrives, Site site);

}  // namespace sala::host

namespace sala {
inline namespace SALA_VARIANT {

template <int RANK>
DEVICE void start_tensor_copy(uint32_t target, const sala_tensor_map& map, const int (&first)[RANK], uint32_t barrier, const char* file,
                              int line) {
    static_assert(2 <= RANK && RANK <= SALA_MAP_AXES, "a map has 2 to 4 axes");
    host::start_tensor_copy(target, map, first, RANK, barrier, {file, line});
}

DEVICE void start_bulk_copy(uint32_t target, const void* global, uint32_t bytes, uint32_t barrier, const char* file, int line) {
    host::start_bulk_copy(target, global, bytes, barrier, {file, line});
}

DEVICE void expect_copied_bytes(uint32_t barrier, uint32_t bytes, const char* file, int line) {
    host::expect_copied_bytes(barrier, bytes, false, {file, line});
}

DEVICE void arrive_mbarrier_expecting(uint32_t barrier, uint32_t bytes, const char* file, int line) {
    host::expect_copied_bytes(barrier, bytes, true, {file, line});
}

DEVICE void prefetch_map(const sala_tensor_map&) {}

}  // namespace SALA_VARIANT
}  // namespace sala
