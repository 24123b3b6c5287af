// The host half of machine/machine.cuh, and what kernels see of the thread that runs them.
#pragma once
#include <stddef.h>
#include <stdint.h>

#include "host/executor.h"
#include "host/site.h"

// Kernels read these at almost every call; this model spares a function call where the executor is part of a
// shared library.
#define SALA_THREAD_LOCAL constinit thread_local __attribute__((tls_model("initial-exec")))

namespace sala::host {

// Where the running fiber is. Fibers never change their OS thread, so the address of a thread-local variable
// holds across switches.
struct Position {
    int thread;
    int block_threads;
    int block[3];
    int grid[3];
};

extern SALA_THREAD_LOCAL Position position;
extern SALA_THREAD_LOCAL sala_host_counters* counters;

// Of exactly `bytes` bytes.
void* dynamic_shared(uint64_t bytes, Site site);
uint32_t shared_address(const void* object, Site site);
void* static_shared(const void* key, uint32_t bytes, uint32_t alignment, Site site);

// Enters a kernel into the registry when the program starts.
struct Registration {
    Registration(const char* name, const char* variant, uint64_t params_size, uint32_t threads, void (*entry)(const void* params));
};

}  // namespace sala::host

#define SALA_TEXT_OF(token) #token
#define SALA_TEXT(macro) SALA_TEXT_OF(macro)

#define KERNEL(name, Params, threads, min_blocks)                                                                                       \
    static void name(const Params& p);                                                                                                  \
    static void name##_entry(const void* params) { name(*static_cast<const Params*>(params)); }                                         \
    static const ::sala::host::Registration name##_registration(#name, SALA_TEXT(SALA_VARIANT), sizeof(Params), threads, name##_entry); \
    static void name([[maybe_unused]] const Params& p)

#define STATIC_SHARED(type, name) \
    static char name##_key;       \
    type& name = *static_cast<type*>(::sala::host::static_shared(&name##_key, sizeof(type), alignof(type), {__FILE__, __LINE__}))

namespace sala {
inline namespace SALA_VARIANT {

DEVICE int thread_index() { return host::position.thread; }
DEVICE int warp_index() { return thread_index() / WARP_SIZE; }
DEVICE int lane_index() { return thread_index() % WARP_SIZE; }
DEVICE int block_threads() { return host::position.block_threads; }
DEVICE int block_index_x() { return host::position.block[0]; }
DEVICE int block_index_y() { return host::position.block[1]; }
DEVICE int block_index_z() { return host::position.block[2]; }
DEVICE int grid_size_x() { return host::position.grid[0]; }
DEVICE int grid_size_y() { return host::position.grid[1]; }
DEVICE int grid_size_z() { return host::position.grid[2]; }

template <class Plan>
DEVICE Plan& dynamic_shared(const char* file, int line) {
    return *static_cast<Plan*>(host::dynamic_shared(sizeof(Plan), {file, line}));
}

template <class Plan>
DEVICE Plan& dynamic_shared(uint32_t tail_bytes, const char* file, int line) {
    return *static_cast<Plan*>(host::dynamic_shared(sizeof(Plan) + tail_bytes, {file, line}));
}

DEVICE uint32_t kept(uint32_t value) { return value; }
DEVICE int64_t kept(int64_t value) { return value; }
DEVICE uint32_t renewed(uint32_t value) { return value; }

DEVICE uint32_t dynamic_shared_address(uint32_t bytes, const char* file, int line) {
    return host::shared_address(host::dynamic_shared(bytes, {file, line}), {file, line});
}

DEVICE uint32_t shared_address(const void* object, const char* file, int line) { return host::shared_address(object, {file, line}); }

}  // namespace SALA_VARIANT
}  // namespace sala
