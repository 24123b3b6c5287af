// The host half of machine/element.cuh.
#pragma once

namespace sala {
inline namespace SALA_VARIANT {

#if defined(__aarch64__)
using Half = __fp16;
#else
using Half = _Float16;
#endif

DEVICE uint32_t float_bits(float value) { return __builtin_bit_cast(uint32_t, value); }
DEVICE float bits_float(uint32_t bits) { return __builtin_bit_cast(float, bits); }

DEVICE uint32_t bf16_bits(float value) {
    const uint32_t bits = float_bits(value);
    if ((bits & 0x7fffffffu) > 0x7f800000u) return 0x7fff;
    return (bits + 0x7fffu + (bits >> 16 & 1)) >> 16;
}

DEVICE uint32_t f16_bits(float value) {
    if (value != value) return 0x7fff;
    return __builtin_bit_cast(uint16_t, static_cast<Half>(value));
}

DEVICE float f16_value(uint32_t bits) { return static_cast<float>(__builtin_bit_cast(Half, static_cast<uint16_t>(bits))); }

template <>
DEVICE uint32_t pack<bf16>(float lo, float hi) {
    return bf16_bits(lo) | bf16_bits(hi) << 16;
}

template <>
DEVICE uint32_t pack<f16>(float lo, float hi) {
    return f16_bits(lo) | f16_bits(hi) << 16;
}

template <>
DEVICE Pair unpack<bf16>(uint32_t pair) {
    return {bits_float(pair << 16), bits_float(pair & 0xffff0000u)};
}

template <>
DEVICE Pair unpack<f16>(uint32_t pair) {
    return {f16_value(pair), f16_value(pair >> 16)};
}

}  // namespace SALA_VARIANT
}  // namespace sala
