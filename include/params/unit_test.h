// Unit kernels of the primitives, which only tests launch.
#ifndef SALA_PARAMS_UNIT_TEST_H
#define SALA_PARAMS_UNIT_TEST_H

#include <stdint.h>

enum {
    SALA_UNIT_TEST_SHARED = 32768,  // bytes of dynamic shared memory that unit kernels and planted faults are launched with
};

// What the memory holds is up to each kernel.
typedef struct sala_unit_test_params {
    uint64_t input, second_input, output;
} sala_unit_test_params;

#endif
