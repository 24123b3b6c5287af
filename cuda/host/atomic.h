// The host half of machine/atomic.cuh.
#pragma once

namespace sala::host {

enum class Atomic { ADD, OR, MAX_UNSIGNED, MAX_SIGNED };

uint32_t atomic(Atomic operation, void* pointer, uint32_t value, Site site);
uint32_t atomic_shared(Atomic operation, uint32_t address, uint32_t value, Site site);
void memory_fence();

}  // namespace sala::host

namespace sala {
inline namespace SALA_VARIANT {

DEVICE uint32_t atomic_add(uint32_t* pointer, uint32_t value, const char* file, int line) {
    return host::atomic(host::Atomic::ADD, pointer, value, {file, line});
}

DEVICE int32_t atomic_add(int32_t* pointer, int32_t value, const char* file, int line) {
    return static_cast<int32_t>(host::atomic(host::Atomic::ADD, pointer, static_cast<uint32_t>(value), {file, line}));
}

DEVICE uint32_t atomic_or(uint32_t* pointer, uint32_t value, const char* file, int line) {
    return host::atomic(host::Atomic::OR, pointer, value, {file, line});
}

DEVICE uint32_t atomic_max(uint32_t* pointer, uint32_t value, const char* file, int line) {
    return host::atomic(host::Atomic::MAX_UNSIGNED, pointer, value, {file, line});
}

DEVICE int32_t atomic_max(int32_t* pointer, int32_t value, const char* file, int line) {
    return static_cast<int32_t>(host::atomic(host::Atomic::MAX_SIGNED, pointer, static_cast<uint32_t>(value), {file, line}));
}

DEVICE uint32_t atomic_add_shared(uint32_t address, uint32_t value, const char* file, int line) {
    return host::atomic_shared(host::Atomic::ADD, address, value, {file, line});
}

DEVICE uint32_t atomic_or_shared(uint32_t address, uint32_t value, const char* file, int line) {
    return host::atomic_shared(host::Atomic::OR, address, value, {file, line});
}

DEVICE uint32_t atomic_max_shared(uint32_t address, uint32_t value, const char* file, int line) {
    return host::atomic_shared(host::Atomic::MAX_UNSIGNED, address, value, {file, line});
}

DEVICE void memory_fence() { host::memory_fence(); }

}  // namespace SALA_VARIANT
}  // namespace sala
