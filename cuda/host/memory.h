// The host half of machine/memory.cuh.
#pragma once

namespace sala::host {

// Each checks the access and moves the bytes; `bytes` is 2, 4, 8 or 16. The copy is made outside the kernel's
// file, where the race build does not instrument it a second time.
void load_global(void* value, const void* from, uint32_t bytes, Site site);
void store_global(void* to, const void* value, uint32_t bytes, Site site);
void load_shared(void* value, uint32_t from, uint32_t bytes, Site site);
void store_shared(uint32_t to, const void* value, uint32_t bytes, Site site);

}  // namespace sala::host

namespace sala {
inline namespace SALA_VARIANT {

template <class V>
constexpr bool IS_TRANSFER = sizeof(V) == 2 || sizeof(V) == 4 || sizeof(V) == 8 || sizeof(V) == 16;

template <class V>
DEVICE V load_global(const V* pointer, const char* file, int line) {
    static_assert(IS_TRANSFER<V>, "2, 4, 8 or 16 bytes move at once");
    V value;
    host::load_global(&value, pointer, sizeof(V), {file, line});
    return value;
}

template <class V>
DEVICE V load_global_constant(const V* pointer, const char* file, int line) {
    return load_global(pointer, file, line);
}

template <class V>
DEVICE void store_global(V* pointer, V value, const char* file, int line) {
    static_assert(IS_TRANSFER<V>, "2, 4, 8 or 16 bytes move at once");
    host::store_global(pointer, &value, sizeof(V), {file, line});
}

template <class V>
DEVICE V load_shared(uint32_t address, const char* file, int line) {
    static_assert(IS_TRANSFER<V>, "2, 4, 8 or 16 bytes move at once");
    V value;
    host::load_shared(&value, address, sizeof(V), {file, line});
    return value;
}

template <class V>
DEVICE void store_shared(uint32_t address, V value, const char* file, int line) {
    static_assert(IS_TRANSFER<V>, "2, 4, 8 or 16 bytes move at once");
    host::store_shared(address, &value, sizeof(V), {file, line});
}

}  // namespace SALA_VARIANT
}  // namespace sala
