// Scalar arithmetic. The approximate functions have about two units in the last place of error on the GPU,
// which also flushes denormal results to zero; the host computes them with the C library.
#pragma once
#include "machine/element.cuh"

namespace sala {
inline namespace SALA_VARIANT {

constexpr float LOG2_E = 1.44269504f;
constexpr float LN_2 = 0.693147181f;
constexpr float INFINITE = __builtin_huge_valf();
constexpr float LOWEST = -3.40282347e38f;           // finite
constexpr float SMALLEST_NORMAL = 1.17549435e-38f;  // positive

// 2 to the power of x, approximate. The executor counts the calls.
DEVICE float exp2(float x);

// Base-2 logarithm, approximate.
DEVICE float log2(float x);

// exp(x) - 1, accurate near zero.
DEVICE float expm1(float x);

// 1 / x, approximate.
DEVICE float fast_reciprocal(float x);

// 1 / √x, approximate, of denormal numbers too.
DEVICE float reciprocal_sqrt(float x);

// The larger (smaller) of two numbers; if one is NaN, the other.
DEVICE float maximum(float a, float b);
DEVICE float minimum(float a, float b);

// a * b + c, rounded once.
DEVICE float fma(float a, float b, float c);

DEVICE int count_bits(uint32_t bits);

// One plus the position of the lowest set bit; 0 if none is set.
DEVICE int find_first_set(uint32_t bits);

// Number of zero bits above the highest set bit; 32 if none is set.
DEVICE int count_leading_zeros(uint32_t bits);

DEVICE constexpr int maximum(int a, int b) { return a > b ? a : b; }
DEVICE constexpr int minimum(int a, int b) { return a < b ? a : b; }
DEVICE constexpr int64_t maximum(int64_t a, int64_t b) { return a > b ? a : b; }
DEVICE constexpr int64_t minimum(int64_t a, int64_t b) { return a < b ? a : b; }

// The number in [low, high] nearest to value.
template <class N>
DEVICE constexpr N clamp(N value, N low, N high) {
    return value < low ? low : (value > high ? high : value);
}

// The quotient of non-negative integers, rounded up.
template <class N>
DEVICE constexpr N ceil_div(N dividend, N divisor) {
    return (dividend + divisor - 1) / divisor;
}

}  // namespace SALA_VARIANT
}  // namespace sala

#if defined(SALA_HOST)
#include "host/math.h"
#else
namespace sala {
inline namespace SALA_VARIANT {

DEVICE float exp2(float x) {
    float y;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
}

DEVICE float log2(float x) {
    float y;
    asm("lg2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
}

DEVICE float fast_reciprocal(float x) {
    float y;
    asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
}

DEVICE float reciprocal_sqrt(float x) {
    float y;
    asm("rsqrt.approx.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
}

DEVICE float expm1(float x) { return ::expm1f(x); }
DEVICE float maximum(float a, float b) { return ::fmaxf(a, b); }
DEVICE float minimum(float a, float b) { return ::fminf(a, b); }
DEVICE float fma(float a, float b, float c) { return ::fmaf(a, b, c); }
DEVICE int count_bits(uint32_t bits) { return ::__popc(bits); }
DEVICE int find_first_set(uint32_t bits) { return ::__ffs(static_cast<int>(bits)); }
DEVICE int count_leading_zeros(uint32_t bits) { return ::__clz(static_cast<int>(bits)); }

}  // namespace SALA_VARIANT
}  // namespace sala
#endif
