#include "host/registry.h"

#include <deque>
#include <string.h>

#include "machine/machine.cuh"
#include "host/executor.h"

namespace sala::host {

namespace {

// A deque keeps its elements in place as it grows. It is built at the first registration, whichever file's
// comes first.
std::deque<sala_host_kernel>& kernels() {
    static std::deque<sala_host_kernel> all;
    return all;
}

sala_host_kernel& kernel_named(const char* name, uint64_t params_size, uint32_t threads) {
    for (sala_host_kernel& kernel : kernels()) {
        if (strcmp(kernel.name, name) == 0) return kernel;
    }
    kernels().push_back({name, params_size, threads, nullptr, nullptr});
    return kernels().back();
}

}  // namespace

Registration::Registration(const char* name, const char* variant, uint64_t params_size, uint32_t threads, KernelEntry entry) {
    sala_host_kernel& kernel = kernel_named(name, params_size, threads);
    (strcmp(variant, "race") == 0 ? kernel.race : kernel.plain) = entry;
}

}  // namespace sala::host

using sala::host::kernels;

const sala_host_kernel* sala_host_find(const char* name) {
    for (const sala_host_kernel& kernel : kernels()) {
        if (strcmp(kernel.name, name) == 0) return &kernel;
    }
    return nullptr;
}

uint32_t sala_host_kernel_count() { return static_cast<uint32_t>(kernels().size()); }

const char* sala_host_kernel_name(uint32_t index) { return index < kernels().size() ? kernels()[index].name : nullptr; }

uint64_t sala_host_params_size(const sala_host_kernel* kernel) { return kernel->params_size; }

uint32_t sala_host_threads(const sala_host_kernel* kernel) { return kernel->threads; }
