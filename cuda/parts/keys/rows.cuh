// How kernels reach the elements of tensors in global memory.
#pragma once

#include "machine/machine.cuh"
#include "params/rows.h"

namespace sala {
inline namespace SALA_VARIANT {

// The row of one token and head.
template <class T>
DEVICE T* row_of(const sala_rows& rows, int64_t token, int64_t head) {
    return reinterpret_cast<T*>(rows.address) + (token * rows.token_stride + head * rows.head_stride);
}

// Entry `index` of a vector that lies at an address.
template <class T>
DEVICE T* entry_of(uint64_t address, int64_t index) {
    return reinterpret_cast<T*>(address) + index;
}

}  // namespace SALA_VARIANT
}  // namespace sala
