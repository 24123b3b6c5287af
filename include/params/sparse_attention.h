// Block-sparse and dense attention.
#ifndef SALA_PARAMS_SPARSE_ATTENTION_H
#define SALA_PARAMS_SPARSE_ATTENTION_H

#include <stdint.h>

#include "keys.h"
#include "rows.h"
#include "sequences.h"
#include "tensor_map.h"

enum {
    SALA_ATTENTION_WARPS = 8,
    SALA_ATTENTION_WARP_ROWS = 16,       // query rows of a warp; a row is one head of one token
    SALA_ATTENTION_STEP = 64,            // keys that are taken in at a time
    SALA_ATTENTION_LIST_BYTES = 2048,    // of the list of steps in shared memory
    SALA_ATTENTION_BARRIER_BYTES = 160,  // beside each stage of keys and values
    SALA_ATTENTION_MIN_STAGES = 3,       // of keys and values in shared memory
    SALA_ATTENTION_MAX_STAGES = 16,
    SALA_GROUP_ATTENTION_WARPS = 12,  // sm90a: two warpgroups that attend, one that copies
    SALA_GROUP_ATTENTION_RING_BYTES = 192 * 1024,
    SALA_GROUP_ATTENTION_SHARED_BYTES = 227 * 1024,
    SALA_GROUP_DENSE_SHARED_BYTES = 194 * 1024,
    SALA_DENSE_WARPS = 8,             // dense prefill: warps of a block
    SALA_DENSE_ROWS = 128,            // its query rows, which are dealt to warps one after the other
    SALA_DENSE_STAGES = 3,            // of K and V in shared memory
    SALA_DENSE_SCRATCH_BYTES = 1536,  // what it keeps there beside them
    SALA_WIDE_DENSE_ROWS = 256,       // the same with Q in shared memory too
    SALA_WIDE_DENSE_SCRATCH_BYTES = 2560,
    SALA_DECODE_WARPS = 8,         // decode: warps of a block, which take 32 keys each at a time
    SALA_DECODE_MAX_QUERIES = 16,  // decode: query tokens of a sequence
    SALA_DECODE_PIECE_KEYS = 256,  // decode: keys of the shortest pieces
    SALA_DECODE_MAX_PIECES = 128,  // decode: pieces of a token's keys
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
    uint64_t first_key;     // i32 [total_q]: a token sees no key before this one; 0: all; not with lists
    uint64_t status;        // u32 [4]
    int32_t all_dense;      // every sequence is attended densely: there are no lists
    int32_t list_len;
    int32_t block_size;                                     // keys: 32, 64 or 128
    int32_t group;                                          // query heads of a kv head
    int32_t tokens_per_warp, warps_per_token, tile_tokens;  // how rows are dealt to warps: 1 in one of the first two
    int32_t ring_stages;                                    // with lists, of keys and values in shared memory
    float scale;
    int32_t reserved;
} sala_sparse_attention_params;

// The same for warpgroups, which are fed by tensor copies.
typedef struct sala_sparse_attention_group_params {
    sala_tensor_map k_map, v_map;  // boxes of 64 columns of a step, or of a page if that is smaller; all zeros: there are none
    sala_sparse_attention_params attention;
    int32_t is_mapped;  // there are both maps
    int32_t reserved[13];
} sala_sparse_attention_group_params;

// Attention of a few tokens, whose keys are cut into pieces: a launch attends to each piece, a second one merges
// what they gave. A row is counted by sequence and place in it (max_seqlen_q rows for each sequence).
typedef struct sala_sparse_attention_decode_params {
    sala_sparse_attention_params attention;
    sala_trees trees;
    uint64_t partials;   // f32 [rows, heads_q, pieces, dim]: O of a piece, not normalised
    uint64_t softmaxes;  // f32 [rows, heads_q, pieces, 2]: its largest score and the sum of its weights
    uint64_t counts;     // i32 [rows, heads_kv]: how many pieces there are, and how many of the first it does not see
    int32_t pieces;      // the most that there may be
    int32_t reserved;
} sala_sparse_attention_decode_params;

#endif
