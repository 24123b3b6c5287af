// Attention over two sets of keys made one.
#ifndef SALA_PARAMS_MERGE_H
#define SALA_PARAMS_MERGE_H

#include <stdint.h>

#include "rows.h"

enum { SALA_MERGE_THREADS = 256 };

// One token per block.
typedef struct sala_merge_params {
    sala_rows out1, out2, out;  // 16-bit [tokens, heads, dim]; out may be one of the others
    sala_rows lse1, lse2, lse;  // f32 [tokens, heads], likewise
    int32_t heads;
    int32_t reserved;
} sala_merge_params;

#endif
