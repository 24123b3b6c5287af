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
    SALA_SELECT_PIECE = 128,   // compressed keys whose m and Z are summed up on their own
};

// Of the kernel whose products are those of warpgroups, one for each of a block's groups of four warps.
enum {
    SALA_SELECT_GROUPS = 2,
    SALA_SELECT_GROUP_COLUMNS = 128,  // of a group: query heads of its tokens
    SALA_SELECT_GROUP_STEP = 128,     // compressed keys that are loaded at a time: a turn of 32 for each warp of a group
    SALA_SELECT_GROUP_STAGES = 3,     // steps in shared memory
    SALA_SELECT_SCORE_STRIDE = 36,    // scores from one token to the next where warps exchange those of a step's 32 blocks
};

// Of the kernels for few query tokens, which take a sequence's rows apart over blocks.
enum {
    SALA_SELECT_PIECE_WARPS = 4,    // of a block that takes a piece of rows
    SALA_SELECT_PIECE_BLOCKS = 31,  // blocks of keys whose scores come from one piece of K1: a block needs the row before its own
    SALA_SELECT_LIST_WARPS = 8,     // of a block that fills a list
    SALA_SELECT_BATCH = 2048,       // scores that such a block has in registers
    SALA_SELECT_BINS = 2048,        // of a histogram of scores
    SALA_SELECT_MASKS = 512,        // of 32 scores each, while a long list is made shorter
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

// The same for few query tokens of a sequence, in three launches with a workspace between them: `tokens` of each from `first_token`
// on, of the sequences from `first_sequence` on that the grid has.
typedef struct sala_select_split_params {
    sala_select_blocks_params select;
    sala_trees trees;
    uint64_t sums;          // f32 [sequences of the grid, heads_kv, tokens, pieces, heads_padded, 2]: m and Z of a piece of rows
    uint64_t block_scores;  // f32 [sequences of the grid, heads_kv, tokens, blocks]
    int32_t pieces;         // of the rows that make m and Z
    int32_t blocks;         // of keys
    int32_t heads_padded;   // the group, padded to eight heads
    int32_t heads_kv;
    int32_t first_sequence;
    int32_t first_token, tokens;
    int32_t product_reciprocal;  // 2^16 / (heads_padded / 8), rounded up
} sala_select_split_params;

#endif
