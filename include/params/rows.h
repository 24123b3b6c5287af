// Tensors whose rows a kernel reaches by token and head.
#ifndef SALA_PARAMS_ROWS_H
#define SALA_PARAMS_ROWS_H

#include <stdint.h>

// A tensor [tokens, heads, ...] whose last axis is contiguous.
typedef struct sala_rows {
    uint64_t address;      // where the first element lies; 0: the tensor is absent
    int64_t token_stride;  // elements from one token to the next
    int64_t head_stride;   // elements from one head to the next
} sala_rows;

#endif
