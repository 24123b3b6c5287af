// The 16-bit element types and their conversions. Two elements share a 32-bit register, the lower index in
// the low half.
#pragma once
#include "machine/machine.cuh"

namespace sala {
inline namespace SALA_VARIANT {

struct bf16 {
    uint16_t bits;
};

struct f16 {
    uint16_t bits;
};

struct Pair {
    float lo, hi;
};

// Rounds to nearest, ties to even. A NaN becomes the canonical NaN; a value above the range of T becomes
// infinity.
template <class T>
DEVICE uint32_t pack(float lo, float hi);

template <class T>
DEVICE Pair unpack(uint32_t pair);

DEVICE uint32_t float_bits(float value);
DEVICE float bits_float(uint32_t bits);

}  // namespace SALA_VARIANT
}  // namespace sala

#if defined(SALA_HOST)
#include "host/element.h"
#else
namespace sala {
inline namespace SALA_VARIANT {

DEVICE uint32_t float_bits(float value) { return __float_as_uint(value); }
DEVICE float bits_float(uint32_t bits) { return __uint_as_float(bits); }

template <>
DEVICE uint32_t pack<bf16>(float lo, float hi) {
    uint32_t pair;
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(pair) : "f"(hi), "f"(lo));
    return pair;
}

template <>
DEVICE uint32_t pack<f16>(float lo, float hi) {
    uint32_t pair;
    asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(pair) : "f"(hi), "f"(lo));
    return pair;
}

template <>
DEVICE Pair unpack<bf16>(uint32_t pair) {
    return {bits_float(pair << 16), bits_float(pair & 0xffff0000u)};
}

template <>
DEVICE Pair unpack<f16>(uint32_t pair) {
    Pair result;
    asm("{\n\t"
        ".reg .b16 lo, hi;\n\t"
        "mov.b32 {lo, hi}, %2;\n\t"
        "cvt.f32.f16 %0, lo;\n\t"
        "cvt.f32.f16 %1, hi;\n\t"
        "}"
        : "=f"(result.lo), "=f"(result.hi)
        : "r"(pair));
    return result;
}

}  // namespace SALA_VARIANT
}  // namespace sala
#endif

namespace sala {
inline namespace SALA_VARIANT {

template <class T>
DEVICE float to_float(T value) {
    return unpack<T>(value.bits).lo;
}

template <class T>
DEVICE T from_float(float value) {
    return T{static_cast<uint16_t>(pack<T>(value, 0.0f))};
}

}  // namespace SALA_VARIANT
}  // namespace sala
