// Appending of new keys and values to those that sequences have.
#ifndef SALA_PARAMS_APPEND_KEYS_H
#define SALA_PARAMS_APPEND_KEYS_H

#include <stdint.h>

#include "keys.h"
#include "rows.h"
#include "sequences.h"

enum {
    SALA_APPEND_THREADS = 256,
};

typedef struct sala_append_keys_params {
    sala_sequences sequences;  // the capacity of caches and pages is `room`, so that sequences longer than it are not refused
    sala_rows k_new, v_new;    // 16-bit [total_q, heads_kv, dim]
    sala_key_rows k, v;
    uint64_t status;  // u32 [4]
    int32_t room;     // caches and pages: tokens that a sequence has room for
    int32_t heads_kv;
} sala_append_keys_params;

#endif
