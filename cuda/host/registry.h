// The kernels in this program, by name. Their files enter them when the program starts.
#pragma once
#include <stdint.h>

using KernelEntry = void (*)(const void* params);

// The same kernel compiled plainly and for race detection; the latter is null where it was not compiled.
struct sala_host_kernel {
    const char* name;
    uint64_t params_size;
    uint32_t threads;
    KernelEntry plain;
    KernelEntry race;
};
