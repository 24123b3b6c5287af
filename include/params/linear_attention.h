// Linear attention: chunked prefill, single-token decode, and the life of a state around them: verification of
// drafts, commitment of those that were accepted, copies, and sequences whose parts are on several ranks.
#ifndef SALA_PARAMS_LINEAR_ATTENTION_H
#define SALA_PARAMS_LINEAR_ATTENTION_H

#include <stdint.h>

#include "rows.h"

enum {
    SALA_LINEAR_STEP = 32,               // tokens that the scan takes at a time
    SALA_LINEAR_STAGES = 3,              // steps whose rows are in shared memory or on their way there
    SALA_LINEAR_ALIGNMENT = 64,          // tokens of which segments and checkpoints are multiples
    SALA_LINEAR_SEGMENT = 4096,          // tokens that a segment of a split sequence has at least
    SALA_LINEAR_SEGMENTS = 8,            // segments that a sequence has at most
    SALA_LINEAR_LONGEST_WARM_UP = 8192,  // tokens
    SALA_LINEAR_DECODE_THREADS = 128,
    SALA_LINEAR_DECODE_CHANNELS = 32,  // value channels of a block of decode, verify and commit
    SALA_LINEAR_MAX_DRAFTS = 16,       // draft tokens of a sequence
    SALA_COPY_STATES_THREADS = 256,
    SALA_COPY_STATES_VECTORS = 4,  // 16 bytes each that a thread copies
    SALA_SUM_DECAY_THREADS = 512,
    SALA_SUM_DECAY_SPAN = 4096,  // tokens of a block where the decay is a constant
    SALA_MERGE_STATES_THREADS = 256,
    SALA_LINEAR_CORRECT_THREADS = 128,
    SALA_LINEAR_CORRECT_CHANNELS = 64,  // value channels of a block
    SALA_LINEAR_CORRECT_SPAN = 1024,    // tokens of a block
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

// Whole sequences. Those of at least two times SALA_LINEAR_SEGMENT tokens are split into segments, if `segments` allows;
// what one segment leaves for others lies in places of the workspace, one per segment.
typedef struct sala_linear_prefill_params {
    sala_linear_attention_params attention;
    sala_states segment_states;  // [places, heads, dim_k, dim_v]: what a segment adds to the state; of the last one, the final state
    uint64_t segment_decays;     // f32 [places, heads, 2]: the sum of the log decay over a segment, and what the first number lacks
    uint64_t arrivals;           // u32 [places, heads, blocks of value channels]: segments that have read the initial state
    uint64_t checkpoint_slots;   // i32 [batch, max_checkpoints]; 0: none
    int64_t checkpoint_every;    // tokens
    int64_t max_seqlen;
    int32_t max_checkpoints;
    int32_t segments;        // of the longest sequence; 1: no sequence is split
    int32_t segments_alone;  // the launch is to leave what segments add, and no outputs
    int32_t dim_v;
    int32_t places_by_batch;  // the places of sequence b begin at segments * b; otherwise at its first token / SALA_LINEAR_SEGMENT
    int32_t reserved;
} sala_linear_prefill_params;

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

// The log decay of whole sequences, added up: `attention` has it, and the sequences.
typedef struct sala_sum_decay_params {
    sala_linear_attention_params attention;
    sala_rows cumulative;  // f32 [tokens, heads]
    sala_rows total;       // f32 [batch, heads]
    int64_t max_seqlen;
    int32_t heads;
    int32_t reserved;
} sala_sum_decay_params;

// What the parts of a sequence add to its state, one after the other. `states.state_out` is [parts + 1, batch].
typedef struct sala_merge_states_params {
    sala_states states;
    sala_states adds;     // the pool alone: [parts * batch, heads, rows, columns]
    sala_rows log_decay;  // f32 [parts * batch, heads]
    uint64_t status;      // u32 [4]
    int32_t parts;
    int32_t rows, columns;
    int32_t reserved;
} sala_merge_states_params;

// Outputs corrected by the state that their sequence begins with: `attention.log_decay` is cumulative.
typedef struct sala_linear_correct_params {
    sala_linear_attention_params attention;
    int64_t max_seqlen;
    int32_t dim_v;
    int32_t reserved;
} sala_linear_correct_params;

#endif
