// The launch arguments of every kernel, defined once: CUDA C++ includes this header, `cargo xtask bindgen` makes src/sys/params.rs from it.
//
// Plain old data on <stdint.h> alone. Padding is written out, so that no uninitialised byte reaches a device; addresses are 64-bit
// device addresses, strides count elements, and absent tensors have address 0.
#ifndef SALA_KERNEL_PARAMS_H
#define SALA_KERNEL_PARAMS_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

// How the log-decay tensor of a linear-attention call is indexed.
enum sala_decay {
    SALA_DECAY_NONE = 0,
    SALA_DECAY_PER_HEAD = 1,
    SALA_DECAY_PER_TOKEN = 2,
};

// Unit kernels of the device primitives, which only tests launch. What the memory holds is each kernel's own affair.
typedef struct sala_unit_test_params {
    uint64_t input, second_input, output;
} sala_unit_test_params;

// The sequences of an attention call. Keys are either packed, [total_k, heads_kv, dim] cut by cu_seqlens_k, or a cache of equal
// capacities, [batch, capacity, heads_kv, dim] filled up to seqlens_k; the other address is 0.
typedef struct sala_sequences {
    uint64_t cu_seqlens_q;  // i32 [batch + 1]
    uint64_t cu_seqlens_k;  // i32 [batch + 1], packed keys
    uint64_t seqlens_k;     // i32 [batch], cached keys: length in the cache, this call's tokens included
    uint64_t switch_len;    // i32 [batch]: the length that decides between dense and sparse; absent: the key length
    int64_t total_q;        // tokens in q
    int64_t capacity_k;     // packed: tokens in k; cached: tokens a sequence has room for
    int32_t batch;
    int32_t max_seqlen_q, max_seqlen_k;  // upper bounds the caller knows; a longer sequence is refused and counted
    int32_t dense_len;                   // sequences with switch_len below it are attended densely
} sala_sequences;

// Chunked prefill scan and single-token decode of linear attention.
typedef struct sala_linear_attention_params {
    uint64_t q, k, v, out;         // 16-bit [tokens, heads, dim]; decode: tokens = batch
    uint64_t cu_seqlens;           // i32 [batch + 1]; prefill only
    uint64_t log_decay;            // f32 [heads] or [tokens, heads]
    uint64_t state;                // f32 [slots, heads, rows, columns]
    uint64_t state_in, state_out;  // i32 [batch]
    uint64_t status;               // u32 [4]
    int64_t q_token_stride, q_head_stride;
    int64_t k_token_stride, k_head_stride;
    int64_t v_token_stride, v_head_stride;
    int64_t out_token_stride, out_head_stride;
    int64_t decay_token_stride, decay_head_stride;
    int64_t state_slot_stride, state_head_stride, state_row_stride;
    int64_t tokens, slots;
    int32_t batch, heads;
    int32_t decay;        // enum sala_decay
    int32_t state_is_vk;  // 0: rows are key channels, columns value channels; 1: the other way round
    float scale;
    int32_t reserved;
} sala_linear_attention_params;

// Block-sparse and dense attention. A row of q is one head of one token; a warp takes 16 rows of one kv head: several tokens with all the heads
// of their group, or 16 heads of one token of a larger group.
typedef struct sala_sparse_attention_params {
    sala_sequences sequences;
    uint64_t q, k, v, out;   // 16-bit [total_q, heads_q, dim]; keys: see sala_sequences
    uint64_t lse;            // f32 [total_q, heads_q]
    uint64_t block_indices;  // i32 [total_q, heads_kv, list_len]; absent: every sequence is dense
    uint64_t scale_factor;   // f32 [total_q]
    uint64_t gate;           // 16-bit [total_q, heads_q, dim]
    uint64_t status;         // u32 [4]
    int64_t q_token_stride, q_head_stride;
    int64_t k_batch_stride, k_token_stride, k_head_stride;  // batch stride: 0 for packed keys
    int64_t v_batch_stride, v_token_stride, v_head_stride;
    int64_t out_token_stride, out_head_stride;
    int64_t lse_token_stride;
    int64_t list_token_stride, list_head_stride;
    int64_t gate_token_stride, gate_head_stride;
    int32_t list_len;
    int32_t block_size;                                 // keys: 32, 64 or 128
    int32_t group;                                      // query heads of a kv head
    int32_t tokens_a_warp, warps_a_token, tile_tokens;  // how rows are dealt to warps: 1 in one of the first two
    float scale;
    int32_t reserved;
} sala_sparse_attention_params;

// The same attention over more blocks than there are tiles of query rows, in two launches with a workspace between them. A row group is sixteen
// rows that one warp takes; groups are counted by sequence, kv head and place in the sequence. A place is one of the steps of 64 keys that a
// group takes, in ascending order.
typedef struct sala_sparse_attention_split_params {
    sala_sparse_attention_params attention;
    uint64_t scores;  // f32 [groups, places, 8, 32, 4]: as the lanes of a warp hold them
    uint64_t maxima;  // f32 [groups, places, 16]
    uint64_t steps;   // i32 [groups, places], -1 after the last
    int32_t groups;   // of one sequence and kv head
    int32_t places;   // a multiple of 8
} sala_sparse_attention_split_params;

// Means of the keys over the windows of K1 (2·stride tokens, one every stride) and K2 (four times both).
typedef struct sala_compress_keys_params {
    uint64_t k;             // 16-bit keys: see sala_sequences
    uint64_t k1, k2;        // 16-bit [rows, heads_kv, dim], a sequence's rows from its first token / stride on; caches: [batch, rows, ...]
    uint64_t cu_seqlens_k;  // as in sala_sequences
    uint64_t seqlens_k;
    uint64_t seqlens_old;                                   // i32 [batch]: keys that earlier calls have compressed; absent: none
    uint64_t status;                                        // u32 [4]
    int64_t k_batch_stride, k_token_stride, k_head_stride;  // batch strides: 0 for packed keys
    int64_t k1_batch_stride, k1_row_stride, k1_head_stride;
    int64_t k2_batch_stride, k2_row_stride, k2_head_stride;
    int64_t capacity_k;             // as in sala_sequences
    int32_t max_seqlen_k, max_new;  // upper bounds the caller knows; a sequence with more keys or more new ones is refused and counted
    int32_t stride;                 // tokens: a quarter of a block
    int32_t reserved;
} sala_compress_keys_params;

// Block selection, with scores from K1 and K2 (select_blocks) or from the caller (top_k_blocks, which reads nothing but `scores`).
typedef struct sala_select_blocks_params {
    sala_sequences sequences;
    uint64_t q;              // 16-bit [total_q, heads_q, dim]
    uint64_t k1, k2;         // as sala_compress_keys_params has them
    uint64_t scale_factor;   // f32 [total_q]
    uint64_t scores;         // f32 [total_q, heads_kv, score_blocks]; select_blocks: written if present
    uint64_t block_indices;  // i32 [total_q, heads_kv, list_len]
    uint64_t status;         // u32 [4]
    int64_t q_token_stride, q_head_stride;
    int64_t k1_batch_stride, k1_row_stride, k1_head_stride;
    int64_t k2_batch_stride, k2_row_stride, k2_head_stride;
    int64_t scores_token_stride, scores_head_stride;
    int64_t list_token_stride, list_head_stride;
    float scale;
    int32_t group;                      // query heads of a kv head
    int32_t block_size;                 // tokens: 32, 64 or 128
    int32_t init_blocks, local_blocks;  // always selected: so many at the start, and so many before the query's own
    int32_t list_len;                   // at least init_blocks + local_blocks + 1
    int32_t queue_capacity;             // entries of a token's queue, see top_k.cuh
    int32_t score_blocks;
    int32_t exact_lse;  // normalise by K1 instead of K2
    int32_t reserved;
} sala_select_blocks_params;

#ifdef __cplusplus
}
#endif

#endif
