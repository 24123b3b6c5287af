// The sequences of an attention call.
#ifndef SALA_PARAMS_SEQUENCES_H
#define SALA_PARAMS_SEQUENCES_H

#include <stdint.h>

#include "keys.h"

// How rows of q and keys are cut into sequences, and which of the sequences are attended densely.
typedef struct sala_sequences {
    sala_keys keys;
    uint64_t cu_seqlens_q;  // i32 [batch + 1]
    uint64_t switch_len;    // i32 [batch]: compared with dense_len; 0: the number of keys is
    int64_t total_q;        // tokens in q
    int32_t batch;
    int32_t max_seqlen_q;  // upper bound that the caller knows; a longer sequence is refused and counted
    int32_t dense_len;     // sequences whose switch_len is below it are attended densely
    int32_t reserved;
} sala_sequences;

// Queries that are drafts of a tree, of a decode step.
typedef struct sala_trees {
    uint64_t parent;  // i32 [batch, ...]: the draft that each draft follows, -1 for none; 0: each follows the one before
    int64_t stride;   // entries from one sequence's to the next
} sala_trees;

#endif
