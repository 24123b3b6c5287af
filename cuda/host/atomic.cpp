// The host half of machine/atomic.cuh.
#include "machine/atomic.cuh"

#include "host/report.h"
#include "host/scheduler.h"
#include "host/shared_memory.h"

namespace sala::host {

namespace {

template <class T>
uint32_t fetch_max(T* pointer, T value) {
    T old = __atomic_load_n(pointer, __ATOMIC_RELAXED);
    while (old < value && !__atomic_compare_exchange_n(pointer, &old, value, true, __ATOMIC_RELAXED, __ATOMIC_RELAXED)) {
    }
    return static_cast<uint32_t>(old);
}

uint32_t perform(Atomic operation, void* pointer, uint32_t value) {
    uint32_t* word = static_cast<uint32_t*>(pointer);
    switch (operation) {
        case Atomic::ADD:
            return __atomic_fetch_add(word, value, __ATOMIC_RELAXED);
        case Atomic::OR:
            return __atomic_fetch_or(word, value, __ATOMIC_RELAXED);
        case Atomic::MAX_UNSIGNED:
            return fetch_max(word, value);
        case Atomic::MAX_SIGNED:
            return fetch_max(static_cast<int32_t*>(pointer), static_cast<int32_t>(value));
    }
    __builtin_unreachable();
}

}  // namespace

uint32_t atomic(Atomic operation, void* pointer, uint32_t value, Site site) {
    Block& block = *running;
    if (pointer == nullptr) fail(site, "atomic: null pointer");
    if (reinterpret_cast<uint64_t>(pointer) % 4 != 0) fail(site, "atomic: address %p is not aligned to 4 bytes", pointer);
    note_call(site, reinterpret_cast<uint64_t>(pointer));
    if (is_shared(block, pointer)) {
        if (block.race != nullptr) block.race->access(block.current->thread, pointer, 4, Access::ATOMIC, AccessSite::at(site));
    } else {
        block.counters.global_bytes_read += 4;
        block.counters.global_bytes_written += 4;
        count_sectors(block, pointer, 4);
    }
    return perform(operation, pointer, value);
}

uint32_t atomic_shared(Atomic operation, uint32_t address, uint32_t value, Site site) {
    Block& block = *running;
    if (address % 4 != 0) fail(site, "atomic: shared address 0x%x is not aligned to 4 bytes", address);
    return atomic(operation, shared_pointer(block, address, 4, block.current->thread, site), value, site);
}

void memory_fence() { __atomic_thread_fence(__ATOMIC_SEQ_CST); }

}  // namespace sala::host
