// Linear attention: chunked prefill, single-token decode, and the life of a state around them: verification of
// drafts, commitment of those that were accepted, copies.
#ifndef SALA_PARAMS_LINEAR_ATTENTION_H
#define SALA_PARAMS_LINEAR_ATTENTION_H

#include <stdint.h>

#include "rows.h"

enum {
    SALA_LINEAR_CHUNK = 64,               // tokens that the scan takes at a time
    SALA_LINEAR_SCAN_WARP_CHANNELS = 16,  // value channels of one of its warps
    SALA_LINEAR_DECODE_THREADS = 128,
    SALA_LINEAR_DECODE_CHANNELS = 32,  // value channels of a block of decode, verify and commit
    SALA_LINEAR_MAX_DRAFTS = 16,       // draft tokens of a sequence
    SALA_COPY_STATES_THREADS = 256,
    SALA_COPY_STATES_VECTORS = 4,  // 16 bytes each that a thread copies
};

// How the log-decay tensor is indexed.
enum sala_decay {
    SALA_DECAY_NONE = 0,
    SALA_DECAY_PER_HEAD = 1,
    SALA_DECAY_PER_TOKEN = 2,
};

// The pool of states f32 [slots, heads, rows, columns], and the slots that each sequence reads and writes.
typedef struct sala_states {
    uint64_t pool;
    uint64_t state_in;   // i32 [batch]; 0: every state starts from zero
    uint64_t state_out;  // i32 [batch]; 0: no state is stored
    int64_t slot_stride, head_stride, row_stride;
    int64_t slots;
    int32_t batch;
    int32_t is_vk;  // 0: rows are key channels, columns value channels; 1: the other way round
} sala_states;

typedef struct sala_linear_attention_params {
    sala_rows q, k, v, out;  // 16-bit [tokens, heads, dim]; decode: tokens = batch
    sala_rows log_decay;     // f32 [tokens, heads]; one constant per head has a token stride of 0
    sala_states states;
    uint64_t cu_seqlens;  // i32 [batch + 1]; prefill only
    uint64_t status;      // u32 [4]
    int64_t tokens;
    int32_t decay;  // enum sala_decay
    float scale;
    int32_t group;  // query heads of a key and value head
    int32_t reserved;
} sala_linear_attention_params;

// Drafts of each sequence: tensors [batch, drafts, heads, dim], of which `attention` says where the first sequence
// lies, and these strides how far the next one is.
typedef struct sala_linear_drafts_params {
    sala_linear_attention_params attention;
    int64_t q_stride, k_stride, v_stride, out_stride, log_decay_stride;  // elements from one sequence to the next
    uint64_t parent;                                                     // verify: i32 [batch, drafts]; 0: chains
    uint64_t accepted;                                                   // commit: i32 [batch]
    uint64_t path;                                                       // commit: i32 [batch, drafts]; 0: the first ones
    int32_t drafts;
    int32_t reserved;
} sala_linear_drafts_params;

// States from slot to slot: `states.state_in` names sources, `states.state_out` destinations.
typedef struct sala_copy_states_params {
    sala_states states;
    uint64_t status;  // u32 [4]
    int32_t rows, columns;
} sala_copy_states_params;

#endif
