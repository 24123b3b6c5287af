// Loads and stores of 2, 4, 8 or 16 bytes. Addresses are aligned to the size of the value; the executor
// checks it, checks shared addresses against the block's shared memory, and counts the bytes asked of global
// memory.
#pragma once
#include "machine/machine.cuh"

namespace sala {
inline namespace SALA_VARIANT {

// N values that move as one.
template <class T, int N>
struct alignas(sizeof(T) * N) Vector {
    T data[N];

    DEVICE T& operator[](int i) { return data[i]; }
    DEVICE const T& operator[](int i) const { return data[i]; }
};

using Float4 = Vector<float, 4>;
using Words2 = Vector<uint32_t, 2>;
using Words4 = Vector<uint32_t, 4>;

template <class V>
DEVICE V load_global(const V* pointer SITE);

// As load_global, from memory that nothing writes while the kernel runs.
template <class V>
DEVICE V load_global_constant(const V* pointer SITE);

template <class V>
DEVICE void store_global(V* pointer, V value SITE);

template <class V>
DEVICE V load_shared(uint32_t address SITE);

template <class V>
DEVICE void store_shared(uint32_t address, V value SITE);

}  // namespace SALA_VARIANT
}  // namespace sala

#if defined(SALA_HOST)
#include "host/memory.h"
#else
#include <string.h>

namespace sala {
inline namespace SALA_VARIANT {

// The loads and stores by size in bytes; values travel as 32-bit words (a 16-bit value in the low half of
// one).
template <int BYTES>
struct Transfer;

template <>
struct Transfer<2> {
    DEVICE static void load_global(uint32_t (&w)[1], const void* p) {
        uint16_t half;
        asm volatile("ld.global.u16 %0, [%1];" : "=h"(half) : "l"(__cvta_generic_to_global(p)) : "memory");
        w[0] = half;
    }
    DEVICE static void load_global_constant(uint32_t (&w)[1], const void* p) {
        uint16_t half;
        asm("ld.global.nc.u16 %0, [%1];" : "=h"(half) : "l"(__cvta_generic_to_global(p)));
        w[0] = half;
    }
    DEVICE static void store_global(void* p, const uint32_t (&w)[1]) {
        asm volatile("st.global.u16 [%0], %1;" ::"l"(__cvta_generic_to_global(p)), "h"(static_cast<uint16_t>(w[0])) : "memory");
    }
    DEVICE static void load_shared(uint32_t (&w)[1], uint32_t a) {
        uint16_t half;
        asm volatile("ld.shared.u16 %0, [%1];" : "=h"(half) : "r"(a) : "memory");
        w[0] = half;
    }
    DEVICE static void store_shared(uint32_t a, const uint32_t (&w)[1]) {
        asm volatile("st.shared.u16 [%0], %1;" ::"r"(a), "h"(static_cast<uint16_t>(w[0])) : "memory");
    }
};

template <>
struct Transfer<4> {
    DEVICE static void load_global(uint32_t (&w)[1], const void* p) {
        asm volatile("ld.global.u32 %0, [%1];" : "=r"(w[0]) : "l"(__cvta_generic_to_global(p)) : "memory");
    }
    DEVICE static void load_global_constant(uint32_t (&w)[1], const void* p) {
        asm("ld.global.nc.u32 %0, [%1];" : "=r"(w[0]) : "l"(__cvta_generic_to_global(p)));
    }
    DEVICE static void store_global(void* p, const uint32_t (&w)[1]) {
        asm volatile("st.global.u32 [%0], %1;" ::"l"(__cvta_generic_to_global(p)), "r"(w[0]) : "memory");
    }
    DEVICE static void load_shared(uint32_t (&w)[1], uint32_t a) {
        asm volatile("ld.shared.u32 %0, [%1];" : "=r"(w[0]) : "r"(a) : "memory");
    }
    DEVICE static void store_shared(uint32_t a, const uint32_t (&w)[1]) {
        asm volatile("st.shared.u32 [%0], %1;" ::"r"(a), "r"(w[0]) : "memory");
    }
};

template <>
struct Transfer<8> {
    DEVICE static void load_global(uint32_t (&w)[2], const void* p) {
        asm volatile("ld.global.v2.u32 {%0, %1}, [%2];" : "=r"(w[0]), "=r"(w[1]) : "l"(__cvta_generic_to_global(p)) : "memory");
    }
    DEVICE static void load_global_constant(uint32_t (&w)[2], const void* p) {
        asm("ld.global.nc.v2.u32 {%0, %1}, [%2];" : "=r"(w[0]), "=r"(w[1]) : "l"(__cvta_generic_to_global(p)));
    }
    DEVICE static void store_global(void* p, const uint32_t (&w)[2]) {
        asm volatile("st.global.v2.u32 [%0], {%1, %2};" ::"l"(__cvta_generic_to_global(p)), "r"(w[0]), "r"(w[1]) : "memory");
    }
    DEVICE static void load_shared(uint32_t (&w)[2], uint32_t a) {
        asm volatile("ld.shared.v2.u32 {%0, %1}, [%2];" : "=r"(w[0]), "=r"(w[1]) : "r"(a) : "memory");
    }
    DEVICE static void store_shared(uint32_t a, const uint32_t (&w)[2]) {
        asm volatile("st.shared.v2.u32 [%0], {%1, %2};" ::"r"(a), "r"(w[0]), "r"(w[1]) : "memory");
    }
};

template <>
struct Transfer<16> {
    DEVICE static void load_global(uint32_t (&w)[4], const void* p) {
        asm volatile("ld.global.v4.u32 {%0, %1, %2, %3}, [%4];"
                     : "=r"(w[0]), "=r"(w[1]), "=r"(w[2]), "=r"(w[3])
                     : "l"(__cvta_generic_to_global(p))
                     : "memory");
    }
    DEVICE static void load_global_constant(uint32_t (&w)[4], const void* p) {
        asm("ld.global.nc.v4.u32 {%0, %1, %2, %3}, [%4];"
            : "=r"(w[0]), "=r"(w[1]), "=r"(w[2]), "=r"(w[3])
            : "l"(__cvta_generic_to_global(p)));
    }
    DEVICE static void store_global(void* p, const uint32_t (&w)[4]) {
        asm volatile("st.global.v4.u32 [%0], {%1, %2, %3, %4};" ::"l"(__cvta_generic_to_global(p)), "r"(w[0]), "r"(w[1]), "r"(w[2]),
                     "r"(w[3])
                     : "memory");
    }
    DEVICE static void load_shared(uint32_t (&w)[4], uint32_t a) {
        asm volatile("ld.shared.v4.u32 {%0, %1, %2, %3}, [%4];" : "=r"(w[0]), "=r"(w[1]), "=r"(w[2]), "=r"(w[3]) : "r"(a) : "memory");
    }
    DEVICE static void store_shared(uint32_t a, const uint32_t (&w)[4]) {
        asm volatile("st.shared.v4.u32 [%0], {%1, %2, %3, %4};" ::"r"(a), "r"(w[0]), "r"(w[1]), "r"(w[2]), "r"(w[3]) : "memory");
    }
};

// Number of words that carry a value of V.
template <class V>
constexpr int WORDS = sizeof(V) < 4 ? 1 : static_cast<int>(sizeof(V) / 4);

template <class V>
DEVICE V from_words(const uint32_t (&w)[WORDS<V>]) {
    V value;
    memcpy(&value, w, sizeof(V));
    return value;
}

template <class V>
DEVICE V load_global(const V* pointer) {
    uint32_t w[WORDS<V>];
    Transfer<sizeof(V)>::load_global(w, pointer);
    return from_words<V>(w);
}

template <class V>
DEVICE V load_global_constant(const V* pointer) {
    uint32_t w[WORDS<V>];
    Transfer<sizeof(V)>::load_global_constant(w, pointer);
    return from_words<V>(w);
}

template <class V>
DEVICE void store_global(V* pointer, V value) {
    uint32_t w[WORDS<V>] = {};
    memcpy(w, &value, sizeof(V));
    Transfer<sizeof(V)>::store_global(pointer, w);
}

template <class V>
DEVICE V load_shared(uint32_t address) {
    uint32_t w[WORDS<V>];
    Transfer<sizeof(V)>::load_shared(w, address);
    return from_words<V>(w);
}

template <class V>
DEVICE void store_shared(uint32_t address, V value) {
    uint32_t w[WORDS<V>] = {};
    memcpy(w, &value, sizeof(V));
    Transfer<sizeof(V)>::store_shared(address, w);
}

}  // namespace SALA_VARIANT
}  // namespace sala
#endif
