// Unit kernels of the primitives, which only tests launch.
#ifndef SALA_PARAMS_UNIT_TEST_H
#define SALA_PARAMS_UNIT_TEST_H

#include <stdint.h>

#include "tensor_map.h"

enum {
    SALA_UNIT_TEST_SHARED = 32768,  // bytes of dynamic shared memory that unit kernels and planted faults are launched with
};

// What the memory holds is up to each kernel.
typedef struct sala_unit_test_params {
    uint64_t input, second_input, output;
} sala_unit_test_params;

// The same for kernels that copy boxes of tensors.
typedef struct sala_tensor_test_params {
    sala_tensor_map map, second_map;
    uint64_t input, output;
    int32_t first[4];  // where a box begins
    uint32_t bytes;    // of a box, or of what is copied
    uint32_t offset;   // of the target, bytes
    uint64_t reserved[3];
} sala_tensor_test_params;

#endif
