// The lists of blocks that selection writes.
#ifndef SALA_PARAMS_BLOCK_LISTS_H
#define SALA_PARAMS_BLOCK_LISTS_H

#include <stdint.h>

#include "rows.h"

enum {
    SALA_QUEUE_BATCH = 32,  // entries that a queue may have to take at once
    SALA_QUEUE_ENTRY = 8,   // bytes of an entry
};

// The lists to be written, and which blocks belong to them whatever their score.
typedef struct sala_block_lists {
    sala_rows indices;                  // i32 [total_q, heads_kv, list_len]
    int32_t list_len;                   // at least init_blocks + local_blocks + 1
    int32_t block_size;                 // tokens: 32, 64 or 128
    int32_t init_blocks, local_blocks;  // always selected: so many at the start, and so many before the query's own
    int32_t queue_capacity;             // entries of a token's queue, see parts/selection/top_k.cuh
    int32_t block_shift;                // log2 of block_size
} sala_block_lists;

#endif
