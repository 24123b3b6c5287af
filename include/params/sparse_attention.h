// Block-sparse and dense attention.
#ifndef SALA_PARAMS_SPARSE_ATTENTION_H
#define SALA_PARAMS_SPARSE_ATTENTION_H

#include <stdint.h>

#include "keys.h"
#include "rows.h"
#include "sequences.h"

enum {
    SALA_ATTENTION_WARPS = 8,
    SALA_ATTENTION_WARP_ROWS = 16,       // query rows of a warp; a row is one head of one token
    SALA_ATTENTION_STEP = 64,            // keys that are taken in at a time
    SALA_ATTENTION_SET_WORDS = 8704,     // 32-bit words in shared memory for the sets of blocks
    SALA_ATTENTION_WORD_KEYS = 1024,     // keys that one word of a set describes
    SALA_ATTENTION_SCORES_WARPS = 4,     // split: warps of a scores block, one step each
    SALA_ATTENTION_VALUES_WARPS = 8,     // split: warps of a values block, which are also the steps of its rounds
    SALA_ATTENTION_VALUES_COLUMNS = 32,  // split: columns of V of a values block
};

// A warp takes 16 rows of one kv head: several tokens with all the heads of their group, or 16 heads of one
// token of a larger group.
typedef struct sala_sparse_attention_params {
    sala_sequences sequences;
    sala_rows q, out, gate;   // 16-bit [total_q, heads_q, dim]
    sala_rows lse;            // f32 [total_q, heads_q]
    sala_rows block_indices;  // i32 [total_q, heads_kv, list_len]
    sala_key_rows k, v;
    uint64_t scale_factor;  // f32 [total_q]
    uint64_t status;        // u32 [4]
    int32_t all_dense;      // every sequence is attended densely: there are no lists
    int32_t list_len;
    int32_t block_size;                                     // keys: 32, 64 or 128
    int32_t group;                                          // query heads of a kv head
    int32_t tokens_per_warp, warps_per_token, tile_tokens;  // how rows are dealt to warps: 1 in one of the first two
    float scale;
} sala_sparse_attention_params;

// The same attention over more blocks than there are tiles of query rows, in two launches with a workspace
// between them. A row group is sixteen rows that one warp takes; row groups are counted by sequence, kv head
// and position in the sequence. A place is one of the steps of 64 keys that a row group takes, in ascending
// order.
typedef struct sala_sparse_attention_split_params {
    sala_sparse_attention_params attention;
    uint64_t scores;     // f32 [row groups, places, 8, 32, 4]: as the lanes of a warp hold them
    uint64_t maxima;     // f32 [row groups, places, 16]
    uint64_t steps;      // i32 [row groups, places]: step · 4 + its listed cells, -1 after the last
    int32_t row_groups;  // how many one sequence and kv head have
    int32_t places;      // a multiple of SALA_ATTENTION_VALUES_WARPS
} sala_sparse_attention_split_params;

#endif
