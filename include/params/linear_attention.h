// Linear attention: chunked prefill and single-token decode.
#ifndef SALA_PARAMS_LINEAR_ATTENTION_H
#define SALA_PARAMS_LINEAR_ATTENTION_H

#include <stdint.h>

#include "rows.h"

enum {
    SALA_LINEAR_CHUNK = 64,               // tokens that the scan takes at a time
    SALA_LINEAR_SCAN_WARP_CHANNELS = 16,  // value channels of one of its warps
    SALA_LINEAR_DECODE_THREADS = 128,
    SALA_LINEAR_DECODE_CHANNELS = 32,  // value channels of a decode block
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
} sala_linear_attention_params;

#endif
