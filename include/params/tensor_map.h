// Tensors in global memory as tensor copies see them: boxes of them go to shared memory at a time.
#ifndef SALA_PARAMS_TENSOR_MAP_H
#define SALA_PARAMS_TENSOR_MAP_H

#include <stdint.h>

enum {
    SALA_MAP_AXES = 4,  // the most axes that a map has

    // How the vectors of 16 bytes of a box are permuted: those within so many bytes by the address bits above them.
    SALA_SWIZZLE_NONE = 0,
    SALA_SWIZZLE_32 = 1,
    SALA_SWIZZLE_64 = 2,
    SALA_SWIZZLE_128 = 3,
};

// What a kernel is given of such a tensor: on a GPU what the driver makes of it, on the CPU a sala_tensor_shape. All zeros:
// there is none. In a params struct maps come first, and what follows them is filled up to a multiple of 64 bytes.
typedef struct __attribute__((aligned(64))) sala_tensor_map {
    uint64_t words[16];
} sala_tensor_map;

// A tensor of 16-bit elements, whose axis 0 is contiguous, and the box that is copied at a time.
typedef struct sala_tensor_shape {
    uint64_t mark;                        // SALA_MAP_MARK
    uint64_t address;                     // where element 0 lies, a multiple of 16
    uint64_t strides[SALA_MAP_AXES - 1];  // bytes from one index to the next of axes 1, 2, …; multiples of 16
    uint32_t sizes[SALA_MAP_AXES];        // elements of each axis, none beyond which is read
    uint32_t boxes[SALA_MAP_AXES];        // those of a box, 1 to 256
    uint32_t axes;                        // how many there are
    uint32_t swizzle;                     // SALA_SWIZZLE_NONE, …
    uint64_t reserved[6];
} sala_tensor_shape;

// What tells a map for the CPU from one for a GPU.
#define SALA_MAP_MARK 0x70616d5f616c6173ull

#endif
