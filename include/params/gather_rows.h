// Rows of keys and values at chosen tokens, to tensors of their own.
#ifndef SALA_PARAMS_GATHER_ROWS_H
#define SALA_PARAMS_GATHER_ROWS_H

#include <stdint.h>

#include "keys.h"
#include "rows.h"

enum {
    SALA_GATHER_THREADS = 256,
    SALA_GATHER_ROWS = 4,  // of a thread, whose loads overlap
};

typedef struct sala_gather_rows_params {
    sala_keys keys;
    sala_key_rows k, v;
    sala_rows indices;           // i32 [batch, heads_kv, chosen]
    sala_key_rows k_out, v_out;  // [batch, chosen, heads_kv, dim], as caches
    sala_rows scores;            // optional, f32 [batch, heads_kv, ...]
    sala_rows scores_out;        // with scores: f32 [batch, heads_kv, chosen]
    uint64_t status;             // u32 [4]
    int32_t chosen;
    int32_t reserved;
} sala_gather_rows_params;

#endif
