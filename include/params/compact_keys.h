// Kept keys and values move to the front of their sequences.
#ifndef SALA_PARAMS_COMPACT_KEYS_H
#define SALA_PARAMS_COMPACT_KEYS_H

#include <stdint.h>

#include "keys.h"
#include "rows.h"

enum {
    SALA_COMPACT_THREADS = 512,
    SALA_COMPACT_ROWS = 4,    // of a thread and step, whose loads overlap
    SALA_COMPACT_SLICE = 32,  // elements of a row that a block moves
};

typedef struct sala_compact_keys_params {
    sala_keys keys;
    sala_key_rows k, v;
    sala_rows indices;  // i32 [batch, heads_kv, kept]
    sala_rows scores;   // optional, f32 [batch, heads_kv, ...]
    uint64_t status;    // u32 [4]
    int32_t kept;
    int32_t reserved;
} sala_compact_keys_params;

#endif
