// The host half of machine/math.cuh.
#pragma once
#include "host/machine.h"

namespace sala {
inline namespace SALA_VARIANT {

// As the GPU's approximate instructions do: a denormal number becomes zero.
DEVICE float flush_denormal(float x) { return __builtin_fabsf(x) < __FLT_MIN__ ? __builtin_copysignf(0.0f, x) : x; }

DEVICE float exp2(float x) {
    ++host::counters->exponentials;
    return flush_denormal(__builtin_exp2f(x));
}

DEVICE float log2(float x) { return __builtin_log2f(flush_denormal(x)); }
DEVICE float expm1(float x) { return __builtin_expm1f(x); }
DEVICE float fast_reciprocal(float x) { return flush_denormal(1.0f / flush_denormal(x)); }
DEVICE float reciprocal_sqrt(float x) { return 1.0f / __builtin_sqrtf(x); }
// The C functions do the same, at the cost of a call.
DEVICE float maximum(float a, float b) { return a > b || b != b ? a : b; }
DEVICE float minimum(float a, float b) { return a < b || b != b ? a : b; }
DEVICE float fma(float a, float b, float c) { return __builtin_fmaf(a, b, c); }
DEVICE int count_bits(uint32_t bits) { return __builtin_popcount(bits); }
DEVICE int find_first_set(uint32_t bits) { return __builtin_ffs(static_cast<int>(bits)); }
DEVICE int count_leading_zeros(uint32_t bits) { return bits == 0 ? 32 : __builtin_clz(bits); }

}  // namespace SALA_VARIANT
}  // namespace sala
