// Block selection by scores from K1 and K2.
#ifndef SALA_PARAMS_SELECT_BLOCKS_H
#define SALA_PARAMS_SELECT_BLOCKS_H

#include <stdint.h>

#include "block_lists.h"
#include "keys.h"
#include "rows.h"
#include "sequences.h"

enum {
    SALA_SELECT_WARPS = 8,
    SALA_SELECT_COLUMNS = 32,  // columns of a warp: query heads of its tokens
    SALA_SELECT_STEP = 64,     // compressed keys that are loaded at a time
    SALA_SELECT_STAGES = 3,    // steps in shared memory
};

typedef struct sala_select_blocks_params {
    sala_sequences sequences;
    sala_block_lists lists;
    sala_rows q;            // 16-bit [total_q, heads_q, dim]
    sala_rows scores;       // f32 [total_q, heads_kv, score_blocks]: written if present
    sala_key_rows k1, k2;   // as sala_compress_keys_params has them
    uint64_t scale_factor;  // f32 [total_q]
    uint64_t status;        // u32 [4]
    float scale;
    int32_t group;  // query heads of a kv head
    int32_t score_blocks;
    int32_t exact_lse;  // normalise by K1 instead of K2
} sala_select_blocks_params;

#endif
