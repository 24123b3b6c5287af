// Block selection by scores that the caller has.
#ifndef SALA_PARAMS_CHOOSE_BLOCKS_H
#define SALA_PARAMS_CHOOSE_BLOCKS_H

#include <stdint.h>

#include "block_lists.h"
#include "rows.h"
#include "sequences.h"

enum {
    SALA_CHOOSE_WARPS = 8,  // one token each
};

typedef struct sala_choose_blocks_params {
    sala_sequences sequences;
    sala_block_lists lists;
    sala_rows scores;  // f32 [total_q, heads_kv, blocks]
    uint64_t status;   // u32 [4]
} sala_choose_blocks_params;

#endif
