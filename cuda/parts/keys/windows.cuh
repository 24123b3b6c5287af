// The windows of keys whose means are the compressed keys K1 and K2.
//
// With s = a quarter of a block of keys, a window of K1 is 2s tokens, one every s, and a window of K2 is 8s
// tokens, one every 4s. So both are windows of twice the number of tokens from one to the next, which the
// functions here call the stride.
#pragma once

#include "machine/machine.cuh"
#include "machine/math.cuh"

namespace sala {
inline namespace SALA_VARIANT {

// How many windows lie within the first `keys` tokens.
DEVICE int full_windows(int keys, int stride) { return maximum(keys / stride - 1, 0); }

// The same for a stride of 2^shift.
DEVICE int full_windows_by_shift(int keys, int shift) { return maximum((keys >> shift) - 1, 0); }

// How many windows end at or before `position`.
DEVICE int visible_windows(int position, int stride) { return full_windows(position + 1, stride); }

}  // namespace SALA_VARIANT
}  // namespace sala
