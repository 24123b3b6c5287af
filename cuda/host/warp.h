// The host half of machine/warp.cuh.
#pragma once

namespace sala::host {

enum class Shuffle { INDEX, XOR, UP, DOWN };
enum class Number { FLOAT, INT, UNSIGNED };
enum class Reduction { MAXIMUM, SUM };

uint32_t shuffle(Shuffle kind, uint32_t bits, int operand, Site site);
uint32_t ballot(bool predicate, Site site);
void sync_warp(Site site);
bool elect_lane(Site site);

// Reduces `count` values of 32 bits in place.
void reduce(Reduction kind, Number number, void* values, int count, int lanes, int stride, Site site);

}  // namespace sala::host

namespace sala {
inline namespace SALA_VARIANT {

template <class T>
constexpr host::Number NUMBER;
template <>
inline constexpr host::Number NUMBER<float> = host::Number::FLOAT;
template <>
inline constexpr host::Number NUMBER<int> = host::Number::INT;
template <>
inline constexpr host::Number NUMBER<uint32_t> = host::Number::UNSIGNED;

template <class T>
DEVICE T exchange(host::Shuffle kind, T value, int operand, const char* file, int line) {
    static_assert(sizeof(T) == 4, "lanes exchange 32 bits");
    return __builtin_bit_cast(T, host::shuffle(kind, __builtin_bit_cast(uint32_t, value), operand, {file, line}));
}

template <class T>
DEVICE T shuffle(T value, int lane, const char* file, int line) {
    return exchange(host::Shuffle::INDEX, value, lane, file, line);
}
template <class T>
DEVICE T shuffle_xor(T value, int mask, const char* file, int line) {
    return exchange(host::Shuffle::XOR, value, mask, file, line);
}
template <class T>
DEVICE T shuffle_up(T value, int delta, const char* file, int line) {
    return exchange(host::Shuffle::UP, value, delta, file, line);
}
template <class T>
DEVICE T shuffle_down(T value, int delta, const char* file, int line) {
    return exchange(host::Shuffle::DOWN, value, delta, file, line);
}

DEVICE uint32_t ballot(bool predicate, const char* file, int line) { return host::ballot(predicate, {file, line}); }
DEVICE bool any(bool predicate, const char* file, int line) { return host::ballot(predicate, {file, line}) != 0; }
DEVICE bool all(bool predicate, const char* file, int line) { return host::ballot(predicate, {file, line}) == 0xffffffffu; }
DEVICE void sync_warp(const char* file, int line) { host::sync_warp({file, line}); }
DEVICE bool elect_lane(const char* file, int line) { return host::elect_lane({file, line}); }

template <int LANES, int STRIDE, class T>
DEVICE void reduce(host::Reduction kind, T* values, int count, const char* file, int line) {
    static_assert((LANES & (LANES - 1)) == 0 && (STRIDE & (STRIDE - 1)) == 0, "lanes and stride are powers of two");
    static_assert(LANES * STRIDE <= WARP_SIZE, "the group leaves the warp");
    host::reduce(kind, NUMBER<T>, values, count, LANES, STRIDE, {file, line});
}

template <int LANES, int STRIDE, class T>
DEVICE T reduce_max(T value, const char* file, int line) {
    reduce<LANES, STRIDE>(host::Reduction::MAXIMUM, &value, 1, file, line);
    return value;
}

DEVICE uint32_t uniform(uint32_t value, const char* file, int line) { return reduce_max<WARP_SIZE, 1>(value, file, line); }

template <int LANES, int STRIDE, class T>
DEVICE T reduce_add(T value, const char* file, int line) {
    reduce<LANES, STRIDE>(host::Reduction::SUM, &value, 1, file, line);
    return value;
}

template <int LANES, int STRIDE, class T, int N>
DEVICE void reduce_max_each(T (&values)[N], const char* file, int line) {
    reduce<LANES, STRIDE>(host::Reduction::MAXIMUM, values, N, file, line);
}

template <int LANES, int STRIDE, class T, int N>
DEVICE void reduce_add_each(T (&values)[N], const char* file, int line) {
    reduce<LANES, STRIDE>(host::Reduction::SUM, values, N, file, line);
}

template <int LANES, class T, int N, int COUNT>
DEVICE void reduce_add_scatter(T (&share)[COUNT], const T (&values)[N], const char* file, int line) {
    static_assert(COUNT * LANES == N, "lanes have equal shares");
    T sums[N];
    for (int i = 0; i < N; ++i) sums[i] = values[i];
    reduce<LANES, 1>(host::Reduction::SUM, sums, N, file, line);
    for (int i = 0; i < COUNT; ++i) share[i] = sums[share_index<LANES>() * COUNT + i];
}

}  // namespace SALA_VARIANT
}  // namespace sala
